"""Damaged, hostile and contested folders, from the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.papers import publish
from bench.store import runs
from tests.support.signing import sign_record

RUN = ("run", "--model", "tiny", "-n", "40", "--eps", "0.1", "--batch-size", "8")
SLOW = (*RUN, "-n", "360", "--attacks", "pgd(steps=3000)")


def other(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    code = "from bench.cli.main import entry; entry()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


def waited(path: Path, lines: int = 2) -> None:
    """Wait until a file has so many lines."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.is_file() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} has not so many lines")


def one_line(said, *parts: str) -> None:
    assert said.code == 2 and said.err.count("\n") == 1 and not said.out, said
    assert all(part in said.err for part in parts), said.err


class TestTwoProcesses:
    def test_a_second_one_is_refused_and_prints_nothing(self, bench, tmp_path: Path) -> None:
        with other(*SLOW, "--out", "out", cwd=tmp_path) as first:
            waited(Path("out/verdicts.csv"))
            held = "out is being written by another process: wait until it ends, or choose another --out"
            one_line(bench(*SLOW, "--out", "out"), held)
            one_line(bench(*SLOW, "--out", "out", "--resume"), held)
            one_line(bench("sweep-eps", *RUN[1:5], "--attack", "fgsm", "--eps", "0,0.1", "--out", "out"), held)
            detect = ("--detector", "kd", "--attacks", "fgsm", "--eps", "0.1", "-n", "150", "--out", "out")
            one_line(bench("detect", "--model", "tiny", *detect), held)
            assert first.poll() is None
            first.kill()
        assert runs.missing(runs.load("out")) > 0

    def test_folders_that_are_named_by_bench_do_not_collide(self, bench, tmp_path: Path) -> None:
        started = [other(*RUN, "--attacks", "fgsm", cwd=tmp_path) for _ in range(3)]
        places = set()
        for process in started:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            places.add(out.strip().splitlines()[-1])
            assert err == f"bench: writing to {out.strip().splitlines()[-1]}\n"
        assert len(places) == 3 and all(len(runs.load(place).verdicts) == 40 for place in places)

    def test_a_detection_that_was_killed_is_replaced(self, bench, tmp_path: Path) -> None:
        words = ("detect", "--model", "tiny", "--detector", "kd", "--attacks", "fgsm,pgd(steps=400)", "--fit-attack")
        words = (*words, "fgsm", "--eps", "0.1", "-n", "150", "--out", "out")
        assert bench(*words[:-1], "whole").code == 0
        with other(*words, cwd=tmp_path) as first:
            until = time.monotonic() + 60
            while not Path("out/.lock").exists() and time.monotonic() < until:
                time.sleep(0.02)
            first.send_signal(signal.SIGKILL)
            first.wait(60)
        shutil.copy("whole/scores.csv", "out/scores.csv")  # as if killed between its two files
        assert bench(*words).code == 0
        assert Path("out/scores.csv").read_bytes() == Path("whole/scores.csv").read_bytes()
        assert {path.name for path in Path("out").iterdir()} == {path.name for path in Path("whole").iterdir()}
        one_line(bench(*words), "out holds another run: choose another --out, or keep it with --resume")
        before = Path("out/detect.json").read_bytes()
        said = bench(*words, "--resume")
        assert said.code == 0 and not said.err and Path("out/detect.json").read_bytes() == before
        one_line(bench(*words, "--resume", "--seed", "3"), "was made with seed 0, not 3")
        one_line(bench(*(word.replace("kd", "lid") for word in words), "--resume"), "the detector kd, not lid")
        one_line(bench(*words[:-2], "--resume"), "--resume needs --out")
        scores = Path("out/scores.csv")
        scores.write_text(scores.read_text().replace("True", "False", 1))
        one_line(bench(*words, "--resume"), "scores.csv was edited after the detection ended")


class TestDeletedWhileItRuns:
    def test_it_stops_and_makes_nothing_again(self, bench, tmp_path: Path) -> None:
        with other(*SLOW, "--out", "out", cwd=tmp_path) as first:
            waited(Path("out/verdicts.csv"))
            shutil.rmtree("out")
            out, err = first.communicate(timeout=120)
        assert first.returncode == 2 and not out and not Path("out").exists()
        assert (
            err
            == "bench: out was deleted or replaced while the run wrote to it: what was there is lost; run it again\n"
        )


class TestOneModelARun:
    CODE = "import torch\nfrom parts import sign\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
    CODE += "        super().__init__()\n        torch.manual_seed(0)\n        self.layer = torch.nn.Linear(64, 10)\n"
    CODE += "    def forward(self, x):\n        return sign() * self.layer(x.flatten(1))\ndef make(): return Net()\n"

    def words(self, name: str = "m.py:make") -> tuple[str, ...]:
        return (
            "run",
            "--model",
            name,
            "--data",
            "digits",
            "-n",
            "20",
            "--eps",
            "0.1",
            "--attacks",
            "fgsm,pgd(steps=2)",
        )

    @pytest.fixture
    def cut(self, bench) -> bytes:
        """A run of a factory that lacks its last rows; what it was."""
        Path("m.py").write_text(self.CODE)
        Path("parts.py").write_text("def sign(): return 1\n")
        assert bench(*self.words(), "--out", "out").code == 0
        whole = Path("out/verdicts.csv").read_bytes()
        Path("out/verdicts.csv").write_bytes(whole[: len(whole) * 2 // 3])
        return whole

    def test_the_same_model_goes_on(self, bench, cut: bytes) -> None:
        said = bench(*self.words(), "--out", "out", "--resume")
        assert said.code == 0 and Path("out/verdicts.csv").read_bytes() == cut

    def test_an_edited_forward_does_not(self, bench, cut: bytes) -> None:
        Path("parts.py").write_text("def sign(): return -1\n")
        before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
        sys.modules.pop("parts", None)
        one_line(bench(*self.words(), "--out", "out", "--resume"), "out was made with another parts.py")
        assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
        Path("parts.py").write_text("def sign(): return 1\n")
        record = json.loads(Path("out/run.json").read_text())
        Path("out/run.json").write_text(json.dumps(record | {"sources": {}}))
        sign_record("out")
        sys.modules.pop("parts", None)
        one_line(bench(*self.words(), "--out", "out", "--resume"), "out was made with another m.py, parts.py")

    def test_what_a_hash_of_files_does_not_see_the_answers_do(self, bench) -> None:
        Path("m.py").write_text(self.CODE.replace("from parts import sign", "sign = lambda: float(open('s').read())"))
        Path("s").write_text("1")
        assert bench(*self.words(), "--out", "out").code == 0
        Path("s").write_text("1.5")
        one_line(bench(*self.words(), "--out", "out", "--resume"), "a model whose logits are others on 32 of 32 images")
        assert bench(*self.words(), "--out", "b").code == 0
        one_line(bench("compare", "out", "b"), "both runs name m.py:make, but they are of two models")

    def test_args_of_a_stanza(self, bench) -> None:
        Path("m.py").write_text(
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, mean=0.0):\n        super().__init__()\n"
            "        self.mean, self.layer = mean, torch.nn.Linear(64, 10)\n"
            "    def forward(self, x):\n        return self.layer(x.flatten(1) - self.mean)\n"
            "def make(**args): return Net(**args)\n"
        )
        import torch
        from safetensors.torch import save_file

        save_file(torch.nn.ModuleDict({"layer": torch.nn.Linear(64, 10)}).state_dict(), "w.safetensors")
        stanza = '[mine]\narch = "m.py:make"\nweights = "w.safetensors"\ndata = "digits"\nargs = { mean = 0.0 }\n'
        Path("checkpoints.toml").write_text(stanza)
        assert bench(*self.words("mine"), "--out", "out").code == 0
        Path("checkpoints.toml").write_text(stanza.replace("0.0", "0.5"))
        said = bench(*self.words("mine"), "--out", "out", "--resume")
        assert said.code == 2 and not said.out
        refusal = 'bench: out was made with args {"mean": 0.0}, not {"mean": 0.5}: choose another --out'
        assert said.err.splitlines()[-1] == refusal

    def test_an_edited_attack(self, bench) -> None:
        text = (
            "from dataclasses import dataclass\nfrom typing import ClassVar\nimport torch\n\n@dataclass(frozen=True)\n"
            "class Grey:\n    needs: ClassVar = ()\n    norms: ClassVar = ('l2',)\n    minimal: ClassVar = True\n"
            "    def __call__(self, model, x, y, budget, keys):\n        return torch.full_like(x, 0.5)\n"
        )
        Path("grey.py").write_text(text)
        words = (*RUN, "--attacks", "grey.py:Grey", "--out", "out")
        assert bench(*words).code == 0
        Path("grey.py").write_text(text.replace("0.5", "0.4"))
        one_line(bench(*words, "--resume"), "out was made with another grey.py")

    def test_a_random_model_goes_on_with_its_first_clean_predictions(self, bench) -> None:
        Path("m.py").write_text(
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        torch.manual_seed(0)\n        self.layer = torch.nn.Linear(64, 10)\n"
            "    def forward(self, x):\n        z = self.layer(x.flatten(1))\n        return z + torch.randn_like(z)\n"
            "def make(): return Net()\n"
        )
        words = (*self.words(), "--force", "--out", "out")
        assert bench(*words).code == 0
        path = Path("out/verdicts.csv")
        first = pd.read_csv(path)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
        record = json.loads(Path("out/run.json").read_text())
        assert record["behaviour"]["random"]
        Path("out/run.json").write_text(json.dumps(record | {"finished": False, "verdicts_sha256": ""}))
        assert bench(*words, "--resume").code == 0
        again = runs.load("out").verdicts
        assert (again.groupby("index")["clean_pred"].nunique() == 1).all()
        assert again["clean_pred"].tolist() == first["clean_pred"].tolist()


class TestManyRuns:
    @pytest.fixture
    def many(self, bench) -> Path:
        for name, seed in (("a", "0"), ("b", "1"), ("c", "2")):
            assert bench(*RUN, "--attacks", "fgsm", "--seed", seed, "--out", f"all/{name}").code == 0
        return Path("all")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda run: (run / "run.json").write_text("{"),
            lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace('"tiny"', "3")),
            lambda run: (run / "verdicts.csv").write_bytes((run / "verdicts.csv").read_bytes() + b"\xff\n"),
            lambda run: (run / "verdicts.csv").unlink(),
            lambda run: (run / "run.json").write_text(
                (run / "run.json").read_text().replace('ed": true', 'ed": false')
            ),
            lambda run: ((run / "probes").mkdir(), (run / "probes" / "cosine.csv").write_bytes(b"\xff")),
        ],
    )
    def test_a_damaged_one_is_named_and_left_out(self, bench, many: Path, damage) -> None:
        damage(many / "b")
        said = bench("table", "mat/2", "--runs", "all", "--out", "views")
        assert said.code == 0 and said.err.startswith("bench: skipped all/b: ") and said.err.count("\n") == 1, said
        assert len(publish.load([many], lambda text: None)) == 2
        shutil.rmtree(many / "a")
        shutil.rmtree(many / "c")
        one_line(bench("table", "mat/2", "--runs", "all", "--out", "views"), "all/b")

    def test_every_view_goes_on_without_it(self, bench, many: Path) -> None:
        (many / "b" / "run.json").write_text("{")
        for command in (("figure", "mat/2"), ("page", "mat"), ("publish",)):
            said = bench(*command, "--runs", "all", "--out", "views")
            assert said.code == 0 and said.err.startswith("bench: skipped all/b: ") and said.err.count("\n") == 1, said
        assert "2 runs" in said.out

    def test_names_that_become_paths_stay_in_their_folder(self, bench, tmp_path: Path) -> None:
        words = ("sweep-eps", "--model", "tiny", "-n", "20", "--attack", "pgd(steps=2)", "--eps", "0,0.1")
        assert bench(*words, "--out", "swept").code == 0
        values = json.loads(Path("swept/run.json").read_text())
        hostile = {"data": "x/../../../y", "model": "mat/../../../evil", "defense": "mat"}
        hostile["trained_with"] = {"mat": {"alpha": 1.0, "beta": 1.0}}
        Path("swept/run.json").write_text(json.dumps(values | hostile))
        sign_record("swept")
        before = {path for path in tmp_path.rglob("*") if "views" not in path.parts}
        for command in (("figure", "all"), ("table", "all"), ("page", "all"), ("publish",)):
            assert bench(*command, "--runs", "swept", "--out", "views/deep").code == 0
        assert {path for path in tmp_path.rglob("*") if "views" not in path.parts} == before
        assert not [path for path in Path("views").iterdir() if path.name != "deep"]
        assert list(Path("views/deep").glob("mat-2-x-*-y-linf.png"))

    def test_tags_and_escapes_reach_no_view(self, bench, many: Path) -> None:
        values = json.loads((many / "a" / "run.json").read_text())
        name = "<script>alert(1)</script> [x](javascript:1) a|b $\\end{x}"
        (many / "a" / "run.json").write_text(json.dumps(values | {"model": name}))
        sign_record(many / "a")
        assert bench("publish", "--runs", "all", "--out", "views", "--views").code == 0
        texts = [path.read_text() for path in [*Path("views").rglob("*.md"), *many.rglob("*.md")]]
        assert any("&lt;script>" in text for text in texts) and not any("<script" in text for text in texts)
        assert not any("](javascript" in text for text in texts)
        tex = (many / "a" / "table.tex").read_text()
        assert r"\textless{}script" in tex and r"\end{x}" not in tex
        (many / "a" / "run.json").write_text(json.dumps(values | {"model": "a\x1b[31mb"}))
        said = bench("publish", "--runs", "all", "--out", "views")
        assert "skipped all/a: all/a/run.json is damaged: model holds a control character" in said.err
        assert "\x1b" not in said.err + said.out


def test_a_model_s_name_that_no_table_could_show_is_refused_before_the_run(bench) -> None:
    Path("a\nb.py").write_text(
        "import torch\ndef f(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    words = ("--data", "digits", "-n", "5", "--eps", "0.1", "--attacks", "fgsm", "--out", "out")
    said = bench("run", "--model", "a\nb.py:f", *words)
    assert said.code == 2 and "holds a control character: give it another name" in said.err and not Path("out").exists()


def test_a_refusal_says_nothing_first(bench) -> None:
    for words in (("run", "--attacks", "pgdd"), ("run", "--attacks", "pgd", "--eps", "9")):
        said = bench(words[0], "--model", "tiny", *words[1:])
        assert said.code == 2 and said.err.count("\n") == 1 and not Path("runs").exists()
    assert bench(*RUN, "--attacks", "fgsm", "--out", "a").code == 0
    assert bench(*RUN[:-2], "--attacks", "fgsm", "--split", "train", "--out", "b").code == 0
    one_line(bench("compare", "a", "b"), "different images")


def test_runs_whose_images_or_labels_differ_are_not_compared(bench) -> None:
    from dataclasses import replace

    assert bench(*RUN, "--attacks", "fgsm", "--out", "a").code == 0
    shutil.copytree("a", "b")
    # As older runs are: without a signature, and without the answers of their model.
    record = replace(runs.read_record(Path("b")), verdicts_sha256="", record_sha256="", behaviour=None)
    Path("b/run.json").write_text(runs.dump(record.to_dict()))
    text = Path("b/verdicts.csv").read_text()
    lines = text.splitlines(keepends=True)
    index, label, rest = lines[3].split(",", 2)
    Path("b/verdicts.csv").write_text("".join([*lines[:3], f"{index},{(int(label) + 1) % 10},{rest}", *lines[4:]]))
    said = bench("compare", "a", "b")
    assert said.code == 2 and not said.out
    Path("b/verdicts.csv").write_text(text)
    assert bench("compare", "a", "b").code == 0
    moved = replace(record, indices=tuple(range(100, 140)))
    Path("b/run.json").write_text(runs.dump(moved.to_dict()))
    Path("b/verdicts.csv").write_text(
        "".join(lines[:1] + [f"1{int(line.split(',')[0]):02d},{line.split(',', 1)[1]}" for line in lines[1:]])
    )
    one_line(bench("compare", "a", "b"), "the runs are on different images: they share none")


def test_a_pipe_named_as_a_file_of_a_run_hangs_nobody(bench) -> None:
    Path("out").mkdir()
    for name in ("run.json", "verdicts.csv", "verdicts.csv.gz"):
        os.mkfifo(f"out/{name}")
    one_line(bench("audit", "out"), "holds no run")
