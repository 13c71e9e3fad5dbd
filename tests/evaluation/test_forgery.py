"""Forged runs: what a forger may alter, alone or together, and signed anew, fails `bench verify` with its reason."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.signing import sign_record

RUN = ("run", "--model", "tiny", "-n", "40", "--eps", "0.1", "--attacks", "pgd(steps=5),ddn(steps=20)")
MAKE = (*RUN, "--batch-size", "16", "--save-adversarial", "--out", "out")


class Forger:
    """Alters a stored run, and can sign it anew."""

    home = Path("out")

    def record(self, **change: Any) -> None:
        values = json.loads((self.home / "run.json").read_text())
        (self.home / "run.json").write_text(json.dumps(values | change))

    def rows(self, alter: Callable[[pd.DataFrame], None]) -> None:
        table = pd.read_csv(self.home / "verdicts.csv", keep_default_na=False, na_values={"eps": [""]})
        alter(table)
        table.to_csv(self.home / "verdicts.csv", index=False, lineterminator="\n")

    def images(self, alter: Callable[[dict[str, Any]], None]) -> None:
        arrays = dict(np.load(self.home / "adversarial.npz"))
        alter(arrays)
        np.savez(self.home / "adversarial.npz", **arrays)

    def sign(self) -> None:
        digests = {
            key: hashlib.sha256((self.home / name).read_bytes()).hexdigest()
            for key, name in (("verdicts_sha256", "verdicts.csv"), ("adversarial_sha256", "adversarial.npz"))
        }
        self.record(**digests)
        sign_record(self.home)


@pytest.fixture
def forger(bench) -> Forger:
    assert bench(*MAKE).code == 0
    return Forger()


def fails(bench, *reasons: str) -> None:
    said = bench("verify", "out")
    assert said.code == 1 and not said.err and "stand\n" not in said.out.partition("do")[0], said
    assert all(reason in said.out for reason in reasons), said.out


def test_an_honest_run_stands_and_says_what_that_proves(bench, forger) -> None:
    said = bench("verify", "out")
    assert said.code == 0 and not said.err
    assert said.out.startswith("all 80 verdicts of out stand\n")
    proven, unproven = said.out.splitlines()[-1].split(" Not proven: ")
    assert proven.startswith("Proven: predictions, sizes and lawfulness of every row, judged anew by tiny (")
    assert "clean images and labels are those of digits test, index by index" in proven
    assert "table.csv, table.tex, table.md are made of these rows" in proven
    assert "that these attacks were really run with these fields" in unproven and "who made the run" in unproven


@pytest.mark.parametrize("signed", [False, True])
def test_one_easy_image_in_place_of_all(bench, forger, signed: bool) -> None:
    """Clean and adversarial images, labels, verdicts and eps replaced, alike everywhere."""

    def images(arrays: dict[str, Any]) -> None:
        arrays["clean"][:] = arrays["clean"][0]
        arrays["images"][:] = arrays["clean"][0]
        arrays["eps"] = np.where(np.isnan(arrays["eps"]), np.nan, 0.4)

    def rows(table: pd.DataFrame) -> None:
        for column in ("label", "clean_pred", "adv_pred"):
            table[column] = int(table["label"].iloc[0])
        table["size"], table["lawful"], table["broken"] = 0.0, True, False
        table["eps"] = table["eps"].where(table["eps"].isna(), 0.4)

    forger.images(images)
    forger.rows(rows)
    forger.record(eps=0.4, eps_written="0.4")
    for name in ("table.csv", "table.tex", "table.md"):
        (forger.home / name).unlink()
    if signed:
        forger.sign()
    reasons = ["39 of 40 clean images are not those of digits test, as image 1", "images have other labels than in"]
    edited = "verdicts.csv was edited after the run ended"
    fails(bench, *reasons, *([] if signed else [edited]))
    assert (edited in bench("verify", "out").out) is not signed


def swap(table: pd.DataFrame, column: str, value: Any, place: int = 3) -> None:
    table.loc[place, column] = value


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (lambda t: swap(t, "adv_pred", 77), "line 5, adv_pred 77: no such class"),
        (lambda t: swap(t, "size", -5.0), "line 5, size -5.0: a size is 0 or more"),
        (lambda t: swap(t, "index", 99999), "line 5, index 99999: no image of this run"),
        (lambda t: swap(t, "broken", not t["broken"][3]), "it does not follow from the other columns"),
        (lambda t: swap(t, "attack", "cw"), "line 5, attack 'cw': no attack of this run"),
        (lambda t: swap(t, "eps", 0.05), "line 5, eps 0.05: no eps of this run"),
        (lambda t: swap(t, "label", 11), "line 5, label 11: no such class"),
        (lambda t: t.drop(index=3, inplace=True), "lacks 1 of the rows that run.json asks for"),
        (lambda t: swap(t, "size", t["size"][3] * 0.5), "image 3 under pgd(steps=5)"),
        (lambda t: t.__setitem__("label", t["label"] % 9), "images have other labels than in digits test"),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_an_edited_row(bench, forger, alter, reason: str, signed: bool) -> None:
    forger.rows(alter)
    if signed:
        forger.sign()
    fails(bench, reason)


def test_every_broken_image_said_to_have_held(bench, forger) -> None:
    def held(table: pd.DataFrame) -> None:
        table["adv_pred"] = table["clean_pred"]
        table["size"], table["broken"] = 0.0, False

    forger.rows(held)
    forger.sign()
    fails(bench, "of 80 verdicts of out do not stand")
    said = bench("audit", "out")
    assert said.code == 0  # the rows are sound by themselves: verify alone can tell


def test_changed_records(bench, forger) -> None:
    kept = (forger.home / "run.json").read_text()
    for change, reason in (
        ({"eps": 0.4}, "run.json: eps 0.4 was written '0.1'"),
        ({"eps": 0.4, "eps_written": "0.4"}, "line 2, eps 0.1: no eps of this run"),
        ({"indices": list(range(39))}, "line 41, index 39: no image of this run"),
        ({"indices": list(range(41))}, "lacks 2 of the rows that run.json asks for"),
        ({"data_sha256": "ab" * 32}, "digits test at hand has the sha256"),
        ({"split": "train"}, "clean images are not those of digits train"),
        ({"norm": "l2", "attacks": json.loads(kept)["attacks"][:1]}, "no attack of this run"),
    ):
        forger.record(**change)
        fails(bench, reason)
        (forger.home / "run.json").write_text(kept)


@pytest.mark.parametrize("size", [-5, 0])
def test_a_batch_size_that_judges_nothing(bench, forger, size: int) -> None:
    forger.rows(lambda table: swap(table, "broken", not table["broken"][3]))
    forger.record(batch_size=size)
    said = bench("verify", "out")
    assert said.code == 2 and f"batch_size is {size}, not a whole number of at least 1" in said.err and not said.out


def test_edited_tables(bench, forger) -> None:
    for name in ("table.csv", "table.tex", "table.md"):
        path = forger.home / name
        kept = path.read_text()
        cell = next(
            word for word in ("92.50", "95.00", "97.50", "0.925", "0.95", "0.975", "90.00", "0.9") if word in kept
        )
        path.write_text(kept.replace(cell, "99.99", 1))
        fails(bench, f"out/{name} is not what the rows give: '99.99' stands where they give")
        path.write_text(kept)


def test_other_images(bench, forger, tmp_path: Path) -> None:
    def swapped(arrays: dict[str, Any]) -> None:
        arrays["clean"][[3, 4]] = arrays["clean"][[4, 3]]

    kept = (forger.home / "adversarial.npz").read_bytes()
    forger.images(swapped)
    forger.sign()
    fails(bench, "2 of 40 clean images are not those of digits test, as image 3", "image 3 under pgd(steps=5)")
    (forger.home / "adversarial.npz").write_bytes(kept)

    forger.images(
        lambda arrays: arrays.update(
            {name: arrays[name][:-1] for name in ("indices", "attacks", "norms", "eps", "images")}
        )
    )
    fails(bench, "1 rows have no image in out/adversarial.npz")
    (forger.home / "adversarial.npz").write_bytes(kept)

    assert bench(*RUN, "--seed", "5", "--save-adversarial", "--batch-size", "16", "--out", "other").code == 0
    shutil.copy("other/adversarial.npz", "out/adversarial.npz")
    fails(bench, "adversarial.npz was edited after the run ended", "verdicts of out do not stand")


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lambda a: a.update(images=a["images"][:, :, :4]), "differ in shape"),
        (lambda a: a.update(images=a["images"].astype(np.int64)), "images is int64"),
        (lambda a: a.update(images=a["images"][:3]), "differ in length"),
        (lambda a: a.update(indices=a["indices"].reshape(2, -1)), "indices has the shape (2, 40)"),
        (lambda a: a.update(attacks=np.arange(80)), "attacks is int64"),
        (lambda a: a.pop("clean"), "clean"),
        (lambda a: a.update(clean_indices=a["clean_indices"] * 0), "a clean image stands there twice"),
    ],
)
def test_arrays_that_no_run_has_are_one_line(bench, forger, alter, said: str) -> None:
    forger.images(alter)
    found = bench("verify", "out")
    assert found.code == 2 and found.err.count("\n") == 1 and "adversarial.npz is damaged" in found.err
    assert said in found.err and not found.out


class TestModels:
    """Another model, and a model that is code."""

    CODE = (
        "import torch\nfrom pathlib import Path\nPath('ran').touch()\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n        torch.manual_seed(0)\n        self.layer = torch.nn.Linear(64, classes)\n"
        "    def forward(self, x):\n        return SIGN * self.layer(x.flatten(1))\n"
        "SIGN = 1\n"
        "def ten(): return Net(10)\ndef three(): return Net(3)\ndef wide(): return torch.nn.Sequential("
        "torch.nn.Flatten(), torch.nn.Linear(784, 10))\ndef flat(): return torch.nn.Flatten(0)\n"
    )

    @pytest.fixture
    def code(self, bench) -> Path:
        path = Path("m.py")
        path.write_text(self.CODE)
        words = ("--data", "digits", "-n", "20", "--eps", "0.1", "--attacks", "fgsm", "--save-adversarial")
        assert bench("run", "--model", "m.py:ten", *words, "--out", "out").code == 0
        Path("ran").unlink()
        return path

    def test_code_that_a_record_names_is_not_run(self, bench, code: Path) -> None:
        for words in (("verify", "out"), ("probe", "out", "--probes", "cosine")):
            said = bench(*words)
            assert (
                said.code == 2 and said.err.count("\n") == 1 and "which is code: give --model, or --trust" in said.err
            )
        assert not Path("ran").exists()
        assert bench("verify", "out", "--trust").code == 0 and Path("ran").exists()
        assert bench("verify", "out", "--model", "m.py:ten").code == 0

    def test_code_that_a_baseline_names_is_not_run(self, bench, code: Path) -> None:
        assert bench("check", "--add", "out", "--baseline", "base.csv").code == 0
        said = bench("check", "--baseline", "base.csv")
        assert said.code == 2 and "which is code" in said.out and not Path("ran").exists()
        assert bench("check", "--baseline", "base.csv", "--trust").code == 0
        Path("ran").unlink()
        assert bench("check", "--baseline", "base.csv", "--model", "m.py:ten").code == 0 and Path("ran").exists()
        text = Path("base.csv").read_text()
        Path("ran").unlink()
        for attack in ("m.py:Grey", "\"transfer(model='m.py:ten')\""):
            Path("base.csv").write_text(text.replace("m.py:ten", "tiny").replace(",fgsm,", f",{attack},"))
            said = bench("check", "--baseline", "base.csv")
            assert said.code == 2 and "which hold code: give --trust" in said.out and not Path("ran").exists()

    def test_an_edited_forward_under_the_same_weights(self, bench, code: Path) -> None:
        code.write_text(self.CODE.replace("SIGN = 1", "SIGN = -1"))
        said = bench("verify", "out", "--trust")
        assert said.code == 2 and said.err.count("\n") == 1 and "was made with another m.py" in said.err
        said = bench("verify", "out", "--model", "m.py:ten")
        assert said.code == 1 and "20 of 20 verdicts of out do not stand" in said.out
        assert (
            "m.py:ten is not the model of this run, which was a model whose logits are others on 16 of 16" in said.out
        )

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("three", "has 3 classes, this run's model 10: name the model that was attacked"),
            ("wide", "does not take this run's images (1, 8, 8)"),
            ("flat", "does not return logits (N, K)"),
        ],
    )
    def test_a_model_of_another_shape_is_one_line(self, bench, code: Path, name: str, fault: str) -> None:
        said = bench("verify", "out", "--model", f"m.py:{name}")
        assert said.code == 2 and said.err.count("\n") == 1 and fault in said.err and not said.out


def test_an_older_run_is_verified_as_unsigned(bench, forger) -> None:
    values = json.loads((forger.home / "run.json").read_text())
    for key in ("classes", "image", "sources", "behaviour", "verdicts_sha256", "adversarial_sha256", "losses_sha256"):
        values.pop(key, None)
    (forger.home / "run.json").write_text(json.dumps(values))
    said = bench("verify", "out")
    assert said.code == 0 and "that no file was edited: the run is unsigned" in said.out


def test_data_that_are_not_at_hand_stay_unproven(bench, forger, monkeypatch) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    forger.record(data="mnist")
    said = bench("verify", "out", "--data-dir", ".")
    assert said.code in (0, 1) and "Not proven: that clean images and labels are those of mnist test, which is not" in (
        said.out
    )


def test_a_budget_that_was_not_used_is_told(bench) -> None:
    words = ("--eps", "0.1", "--attacks", "pgd(steps=1,step_size=0.02,random_start=False)", "--save-adversarial")
    assert bench("run", "--model", "tiny", "-n", "40", *words, "--out", "out").code == 0
    said = bench("verify", "out")
    assert said.code == 0 and "that the budget was used: no lawful image is further than 0.2 of its eps" in said.out
