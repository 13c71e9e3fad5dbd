"""The commands, as a user types them: what they print, what they write, how they refuse."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.cli.progress import Progress
from bench.core import files
from bench.evaluation.request import Request, subject
from bench.evaluation.run import in_memory, prepare
from bench.store import runs, writer

QUICK = ["--model", "tiny", "-n", "40"]
TABLE = (
    "model,data,attack,norm,eps,n,clean_accuracy,robust_accuracy,ci_low,ci_high,success_rate,mean_size,median_size,"
    "forwards,backwards,seconds"
)
VERDICTS = "index,label,clean_pred,attack,norm,eps,adv_pred,size,lawful,broken,forwards,backwards"


def one_line(said, *parts: str) -> None:
    """Exit 2 and one clear line that holds these parts."""
    lines = said.err.strip().splitlines()
    assert said.code == 2 and len(lines) == 1, said
    assert lines[0].startswith("bench: ") and all(part in lines[0] for part in parts), lines[0]


def test_run_writes_what_the_contract_lists(bench):
    said = bench("run", *QUICK, "--attacks", "noise,pgd(steps=5),ddn(steps=20),adaptive(steps=5)", "--out", "out")
    assert said.code == 0, said.err
    names = {path.name for path in Path("out").iterdir()}
    assert {"run.json", "verdicts.csv", "table.csv", "table.tex", "curve.png"} <= names
    assert Path("out/verdicts.csv").read_text().splitlines()[0] == VERDICTS
    assert Path("out/table.csv").read_text().splitlines()[0] == TABLE
    rows = pd.read_csv("out/verdicts.csv")
    assert len(rows) == 40 * 7 and not rows.duplicated(["index", "attack", "norm", "eps"]).any()
    assert rows[rows["attack"].str.startswith("ddn")]["eps"].isna().all()
    table = pd.read_csv("out/table.csv")
    assert table.groupby("norm").tail(1)["attack"].tolist() == ["worst", "worst"]
    assert "booktabs" in Path("out/table.tex").read_text() or "toprule" in Path("out/table.tex").read_text()
    assert "worst" in said.out and "95%" in said.out
    record = json.loads(Path("out/run.json").read_text())
    for key in [
        "schema_version",
        "model",
        "weights_sha256",
        "data",
        "split",
        "indices",
        "data_sha256",
        "attacks",
        "norm",
        "eps",
        "eps_written",
        "seed",
        "device",
        "dtype",
        "versions",
        "commit",
        "dirty",
        "command",
        "start",
        "seconds",
        "forwards",
        "backwards",
    ]:
        assert key in record, key
    assert record["adaptive"] == ["kl(steps=5)", "latent(steps=5)", "margin(steps=5)", "normalised_ce(steps=5)"]
    assert next(a for a in record["attacks"] if a["name"] == "kl")["fields"]["beta"] == 2.0
    assert record["forwards"] == int(rows["forwards"].sum())


def test_misclassified_images_are_rows_that_nobody_attacked(bench):
    bench("run", "--model", "tiny", "--attacks", "pgd(steps=3)", "--out", "out")
    rows = pd.read_csv("out/verdicts.csv")
    wrong = rows[rows["label"] != rows["clean_pred"]]
    assert len(wrong) and (wrong["adv_pred"] == wrong["clean_pred"]).all() and (wrong["size"] == 0).all()
    assert not wrong["broken"].any() and (wrong["forwards"] == 0).all()


def test_eps_zero_breaks_nothing(bench):
    said = bench("run", *QUICK, "--attacks", "pgd(steps=3),fgsm", "--eps", "0", "--out", "out")
    table = pd.read_csv("out/table.csv")
    assert said.code == 0 and (table["robust_accuracy"] == table["clean_accuracy"]).all()


def test_sweep_writes_its_curve_and_equals_separate_runs(bench):
    words = ("sweep-eps", *QUICK, "--attack", "pgd(steps=5)", "--eps", "0:0.2:5")
    said = bench(*words, "--independent", "--out", "sweep")
    assert said.code == 0 and {"curve.csv", "curve.tex", "curve.png"} <= {path.name for path in Path("sweep").iterdir()}
    swept = pd.read_csv("sweep/verdicts.csv", dtype=str, keep_default_na=False)
    for eps in ("0", "0.1", "0.2"):
        bench("run", *QUICK, "--attacks", "pgd(steps=5)", "--eps", eps, "--out", f"one-{eps}")
        alone = pd.read_csv(f"one-{eps}/verdicts.csv", dtype=str, keep_default_na=False)
        same = swept[swept["eps"] == repr(float(eps))].reset_index(drop=True)
        pd.testing.assert_frame_equal(same, alone)


def test_sweeps_say_in_what_order_they_went(bench):
    words = ("sweep-eps", *QUICK, "--attack", "pgd(steps=5)", "--eps", "0:0.2:5")
    said = {"exact": "counts as broken", "bisect": "assumes", "independent": "by itself"}
    tables, passes = {}, {}
    for order, text in said.items():
        options = [] if order == "exact" else [f"--{order}"]
        assert bench(*words, *options, "--out", order).code == 0
        record = json.loads(Path(order, "run.json").read_text())
        assert record["eps_order"] == order and text in Path(order, "curve.tex").read_text()
        tables[order], passes[order] = pd.read_csv(f"{order}/verdicts.csv"), record["forwards"]
    alone = tables["independent"].pivot(index="index", columns="eps", values="broken")
    exact = tables["exact"].pivot(index="index", columns="eps", values="broken")
    pd.testing.assert_frame_equal(exact, alone.cummax(axis=1))
    assert passes["bisect"] < passes["exact"] < passes["independent"]
    one_line(bench(*words, "--bisect", "--independent"), "exclude each other")
    one_line(bench(*words, "--resume", "--out", "bisect"), "eps_order")


def test_sweep_of_a_minimal_attack_is_one_run(bench):
    said = bench("sweep-eps", *QUICK, "--attack", "fmn(steps=20)", "--eps", "0,0.1,0.2", "--out", "sweep")
    assert said.code == 0
    curve = pd.read_csv("sweep/curve.csv")
    mine = curve[curve["attack"] != "worst"]
    assert mine["eps"].tolist() == [0, 0.1, 0.2] and mine["robust_accuracy"].is_monotonic_decreasing
    assert len(pd.read_csv("sweep/verdicts.csv")) == 40


def test_verify_judges_again_without_data_or_attack(bench, monkeypatch):
    bench("run", *QUICK, "--attacks", "pgd(steps=5),ddn(steps=20)", "--save-adversarial", "--out", "out")
    assert bench("verify", "out").code == 0
    weights = load_file("tiny.safetensors")
    weights["head.weight"] *= -1
    save_file(weights, "tiny.safetensors")
    one_line(bench("verify", "out"), "sha256")


def test_compare_and_audit_read_stored_runs(bench):
    bench("run", *QUICK, "--attacks", "pgd(steps=5),fgsm", "--out", "a")
    bench("run", *QUICK, "--attacks", "pgd(steps=5),fgsm", "--seed", "1", "--out", "b")
    assert "pgd(steps=5)" in bench("compare", "a", "b").out and "unlike" not in bench("compare", "a", "b").out
    bench("run", *QUICK, "--attacks", "fgsm", "--out", "c")
    assert "worst is of unlike attacks: only a met pgd(steps=5); only b met none" in bench("compare", "a", "c").out
    said = bench("audit", "a")
    assert said.code == 0 and "not run: adaptive (" in said.out and ", noise (" in said.out


@pytest.mark.parametrize(
    ("kind", "name"), [("models", "tiny"), ("attacks", "pgd"), ("data", "digits"), ("tables", "mat/4")]
)
def test_list(bench, kind, name):
    said = bench("list", kind)
    assert said.code == 0 and name in said.out


class TestRefusals:
    """Bad input: one line (thing, fault, remedy) on stderr, exit 2."""

    def run(self, bench, *words: str, attacks: str = "pgd"):
        return bench("run", *QUICK, "--attacks", attacks, "--out", "out", *words)

    def test_unknown_names_suggest_neighbours(self, bench):
        one_line(bench("run", "--model", "tny", "--attacks", "pgd"), "tny", "tiny")
        one_line(self.run(bench, attacks="pgdd"), "pgdd", "did you mean pgd")
        one_line(self.run(bench, attacks="pgd(stps=3)"), "stps", "did you mean steps")
        one_line(self.run(bench, "--data", "digit"), "digit", "digits")
        one_line(bench("table", "mat/9"), "mat/9")
        one_line(bench("rnu"), "rnu")
        one_line(self.run(bench, "--norm", "l7"), "l7")

    @pytest.mark.parametrize("eps", ["-0.1", "nan", "8/0", "inf", "", "8/", "abc"])
    def test_eps(self, bench, eps):
        one_line(self.run(bench, f"--eps={eps}"), "eps")

    @pytest.mark.parametrize(
        "attacks",
        ["", " ", ",", "pgd,,cw", "pgd(", "pgd(3)", "pgd(steps=x)", "pgd,pgd", "pgd(steps=-1)", "pgd(steps='a')"],
    )
    def test_attack_lists(self, bench, attacks):
        one_line(self.run(bench, attacks=attacks))

    def test_needs_that_are_not_met(self, bench):
        one_line(self.run(bench, attacks="mat"), "class_centers")

    def test_counts(self, bench):
        one_line(bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "0"), "-n 0")
        one_line(bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "9999"), "360")
        one_line(self.run(bench, "--batch-size", "0"), "--batch-size")
        one_line(self.run(bench, "--device", "cuda:99"), "cuda:99")

    def test_a_folder_that_holds_another_run(self, bench):
        assert self.run(bench).code == 0
        before = Path("out/verdicts.csv").read_bytes()
        one_line(self.run(bench), "another run", "--resume")
        one_line(self.run(bench, "--seed", "3", "--resume"), "seed")
        assert Path("out/verdicts.csv").read_bytes() == before
        one_line(bench("run", *QUICK, "--attacks", "pgd", "--resume"), "--out")

    def test_weights(self, bench):
        original = Path("tiny.safetensors").read_bytes()
        Path("tiny.safetensors").write_bytes(original[:-1] + b"\0")
        one_line(self.run(bench), "sha256")
        registry = Path("checkpoints.toml")
        Path("tiny.safetensors").write_bytes(original[:-50])
        old = registry.read_text().split('sha256 = "')[1][:64]
        registry.write_text(registry.read_text().replace(old, files.sha256_of(Path("tiny.safetensors"))))
        one_line(self.run(bench), "tiny.safetensors")

    def test_a_checkpoint_with_code_in_it_is_not_run(self, bench):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, ("exploded",)

        Path("bomb.pt").write_bytes(pickle.dumps({"head.weight": Bomb()}))
        text = Path("checkpoints.toml").read_text().replace("tiny.safetensors", "bomb.pt")
        old = text.split('sha256 = "')[1][:64]
        Path("checkpoints.toml").write_text(text.replace(old, files.sha256_of(Path("bomb.pt"))))
        one_line(self.run(bench), "bomb.pt")
        assert not Path("exploded").exists()

    def test_missing_data_says_where_it_looked(self, bench, monkeypatch):
        monkeypatch.delenv("BENCH_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path("nowhere").absolute()))
        one_line(self.run(bench, "--data", "mnist"), "mnist", "nowhere", "bench data fetch mnist")

    def test_damaged_data(self, bench, monkeypatch):
        monkeypatch.setenv("BENCH_DATA", "data")
        Path("data/mnist").mkdir(parents=True)
        for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
            Path("data/mnist", name).write_bytes(gzip.compress(b"not the official file"))
        one_line(self.run(bench, "--data", "mnist"), "sha256")

    def test_models_that_fail_the_checks(self, bench):
        Path("odd.py").write_text(
            "import torch\n"
            "class Odd(torch.nn.Module):\n"
            "    def __init__(self, kind):\n"
            "        super().__init__()\n"
            "        self.linear, self.kind = torch.nn.Linear(64, 10), kind\n"
            "    def forward(self, x):\n"
            "        z = self.linear(x.flatten(1))\n"
            "        if self.kind == 'random':\n"
            "            z = torch.nn.functional.dropout(z, 0.5, training=True)\n"
            "        if self.kind == 'batch':\n"
            "            z = z - z.mean(0)\n"
            "        if self.kind == 'nan':\n"
            "            z = z * float('nan')\n"
            "        return z.argmax(1) if self.kind == 'labels' else z\n"
            "def random(): return Odd('random')\n"
            "def batch(): return Odd('batch')\n"
            "def nan(): return Odd('nan')\n"
            "def labels(): return Odd('labels')\n"
        )
        words = ["--data", "digits", "-n", "20", "--eps", "0.1", "--attacks", "fgsm"]
        for kind, check in (("random", "deterministic"), ("batch", "batch"), ("nan", "finite")):
            one_line(bench("run", "--model", f"odd.py:{kind}", *words, "--out", kind), f"'{check}' failed", "--force")
        one_line(bench("run", "--model", "odd.py:labels", *words, "--out", "labels", "--force"), "'shape' failed")
        said = bench("run", "--model", "odd.py:random", *words, "--out", "forced", "--force")
        assert said.code == 0 and json.loads(Path("forced/run.json").read_text())["forced"] == ["deterministic"]
        assert "deterministic" in bench("audit", "forced").out
        said = bench("run", "--model", "odd.py:nan", *words, "--out", "nan", "--force")
        assert said.code == 0 and "no evidence of robustness" in said.out

    def test_a_factory_that_is_not_there(self, bench):
        one_line(bench("run", "--model", "absent.py:model", "--attacks", "pgd"), "absent.py")
        one_line(bench("run", "--model", "math:tau", "--attacks", "pgd"), "math:tau")

    def test_a_full_disk_loses_nothing(self, bench, monkeypatch):
        real, calls = os.write, {"count": 0}

        def full(file: int, data: bytes) -> int:
            calls["count"] += 1
            if calls["count"] > 2:
                raise OSError(28, "No space left on device")
            return real(file, data)

        monkeypatch.setattr(writer.os, "write", full)
        words = ["run", *QUICK, "--attacks", "pgd(steps=3)", "--batch-size", "8", "--out", "out"]
        one_line(bench(*words), "disk is full", "--resume")
        monkeypatch.setattr(writer.os, "write", real)
        kept = runs.load("out").verdicts
        assert len(kept) == 16
        assert bench(*words, "--resume").code == 0
        assert len(runs.load("out").verdicts) == 40


def test_a_model_and_data_that_do_not_fit(bench, real_data):
    words = ["--attacks", "fgsm", "--data", "mnist", "--data-dir", str(real_data), "-n", "4", "--force"]
    one_line(bench("run", "--model", "tiny", *words, "--out", "out"), "'input' failed", "(1, 28, 28)")


def test_a_sweep_in_another_norm_is_refused(bench):
    one_line(bench("sweep-eps", *QUICK, "--attack", "ddn", "--eps", "0,0.1", "--out", "out"), "ddn", "--norm l2")


def test_values_that_mean_nothing(bench):
    for attack in (
        "pgd(step_size=-0.01)",
        "ddn(levels=1)",
        "transfer(model=5)",
        "pgd(steps=[1])",
        "pgd(step_size=1e999)",
    ):
        one_line(bench("run", *QUICK, "--attacks", attack, "--out", "out"))


def test_verify_checks_every_column(bench):
    bench("run", *QUICK, "--attacks", "ddn(steps=20)", "--save-adversarial", "--out", "out")
    path = Path("out/verdicts.csv")
    rows = pd.read_csv(path)
    rows.loc[3, "size"] *= 0.5
    rows.to_csv(path, index=False)
    said = bench("verify", "out")
    assert said.code == 1 and "1 of 40" in said.out and "image 3 under ddn(steps=20)" in said.out


def test_runs_on_different_images_are_not_compared(bench):
    bench("run", *QUICK, "--attacks", "fgsm", "--out", "a")
    bench("run", *QUICK, "--split", "train", "--attacks", "fgsm", "--out", "b")
    one_line(bench("compare", "a", "b"), "split")
    bench("run", *QUICK, "--attacks", "fgsm", "--eps", "0.05", "--out", "c")
    one_line(bench("compare", "a", "c"), "share no norm and eps")


def test_latent_takes_exemplars_from_the_split_itself_where_there_is_no_other(bench):
    from PIL import Image

    from bench.data import loading

    digits = loading.load("digits")
    for place in range(40):
        folder = Path("pictures", str(int(digits.labels[place])))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[place, 0] * 255).byte().numpy()).save(folder / f"{place}.png")
    said = bench("run", "--model", "tiny", "--data", "folder:pictures", "--attacks", "latent(steps=3)", "--out", "out")
    assert said.code == 0, said.err


def test_missing_command_words_are_one_line(bench):
    one_line(bench("run", "--model", "tiny"), "--attacks")
    one_line(bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "many"), "many")
    one_line(bench("verify", "nowhere"), "nowhere")
    one_line(bench("compare", "nowhere", "elsewhere"), "nowhere")
    one_line(bench("check", "--baseline", "absent.csv"), "absent.csv")
    one_line(bench("data", "fetch", "mnistt"), "mnist")


def test_own_model_from_a_file_and_own_attack_from_a_file(bench):
    Path("mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "import torch\n"
        "def model(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "@dataclass(frozen=True)\n"
        "class Grey:\n"
        "    level: float = 0.5\n"
        "    needs: ClassVar = ()\n"
        "    norms: ClassVar = ('l2',)\n"
        "    minimal: ClassVar = True\n"
        "    def __call__(self, model, x, y, budget, keys):\n"
        "        return torch.full_like(x, self.level)\n"
    )
    words = ["--data", "digits", "-n", "20", "--attacks", "mine.py:Grey(level=0.25)"]
    said = bench("run", "--model", "mine.py:model", *words, "--out", "own")
    assert said.code == 0, said.err
    assert bench("run", "--model", "tiny", *words, "--out", "out").code == 0
    row = pd.read_csv("out/table.csv").iloc[0]
    assert row["attack"] == "mine.py:Grey(level=0.25)" and row["mean_size"] > 0
    Path("mine.py").write_text(Path("mine.py").read_text().replace("self.level)", "self.depth)"))
    one_line(bench("run", "--model", "tiny", *words, "--out", "failed"), "no attribute 'depth' (mine.py, line 12)")


def test_a_log_is_told_how_far_a_run_is_in_whole_lines(bench):
    request, log = Request("tiny", "noise,pgd(steps=3)", n=40, batch_size=8), io.StringIO()
    with prepare(request, subject(request)) as prepared:
        progress = Progress(prepared, log, every=0.0)
        in_memory(prepared, progress)
        progress.close()
    lines = log.getvalue().splitlines()
    assert lines and all(line.startswith("bench: ") and " of 80 rows, " in line for line in lines), lines


def test_labels_that_do_not_fit_are_refused():
    import bench
    from bench.core.types import UserError

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(4, dtype=torch.long)
    for images, labels in (
        (x, zeros[:3]),
        (x, zeros + 3),
        (x, zeros - 1),
        (x[:0], zeros[:0]),
        (x.int(), zeros),
        (x + 1, zeros),
    ):
        with pytest.raises(UserError):
            bench.evaluate(model, images, labels, "fgsm", eps=0.1)


def test_training_mode_is_given_back():
    import bench

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 3)).train()
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run = bench.evaluate(model, x, torch.zeros(8, dtype=torch.long), "fgsm", eps=0.1)
    assert model.training and model[1].training and all(weight.requires_grad for weight in model.parameters())
    assert len(run.verdicts) == 8
