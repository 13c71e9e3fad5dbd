"""`bench check`: a real pass, a real regression, a real rise, and a real "could not run"."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.core import files
from bench.ops import rng
from tests.support.checkout import ROOT


@pytest.fixture
def baseline(bench):
    """A baseline of `tiny` under two attacks."""
    said = bench(
        "run",
        "--model",
        "tiny",
        "--attacks",
        "pgd(steps=5),margin(steps=5),ddn(steps=10)",
        "--eps",
        "0.05",
        "--out",
        "r",
    )
    assert said.code == 0, said.err
    said = bench("check", "--add", "r", "--baseline", "results/baseline.csv")
    assert said.code == 0 and "3 rows of 1 models" in said.out
    return Path("results/baseline.csv")


def replace_weights(change) -> None:
    """Put other weights under the name `tiny`, as somebody who ships a new checkpoint would."""
    registry = Path("checkpoints.toml")
    before = files.sha256_of(Path("tiny.safetensors"))
    save_file(
        {name: change(name, weight) for name, weight in load_file("tiny.safetensors").items()}, "tiny.safetensors"
    )
    registry.write_text(registry.read_text().replace(before, files.sha256_of(Path("tiny.safetensors"))))


def test_adding_a_run_replaces_all_of_its_budget(bench, baseline):
    bench("run", "--model", "tiny", "--attacks", "fgsm", "--eps", "0.05", "--out", "second")
    said = bench("check", "--add", "second")
    assert said.code == 0 and "2 rows of 1 models" in said.out
    assert bench("check").code == 0


def test_the_same_model_holds(bench, baseline):
    said = bench("check", "--junit", "junit.xml")
    assert said.code == 0 and "3 rows hold, 0 failed, 0 could not run" in said.out
    suite = ElementTree.parse("junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "0", "0")


def test_a_weaker_model_is_noticed(bench, baseline):
    def weaken(name, weight):
        draws = rng.normal(rng.keys(0, torch.arange(1), name), weight.shape)[0]
        return weight + 0.5 * weight.std() * draws

    replace_weights(weaken)
    said = bench("check", "--junit", "junit.xml")
    assert said.code == 1
    failed = [line for line in said.out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 3 and all("lost" in line and "p = " in line and "other weights" in line for line in failed)
    suite = ElementTree.parse("junit.xml").getroot()
    assert suite.get("failures") == "3" and len(list(suite.iter("failure"))) == 3


def test_a_rise_fails_unless_allowed(bench, baseline):
    table = pd.read_csv(baseline, dtype=str, keep_default_na=False)
    table["outcomes"] = ["b" * 40 + letters[40:] for letters in table["outcomes"]]
    table.to_csv(baseline, index=False)
    said = bench("check")
    assert said.code == 1 and "rose" in said.out
    said = bench("check", "--allow-rise")
    assert said.code == 0 and "gained" in said.out
    assert bench("check", "--tolerance", "40").code == 0


def test_what_cannot_run_is_exit_2_and_named(bench, baseline):
    Path("tiny.safetensors").unlink()
    said = bench("check", "--junit", "junit.xml")
    assert said.code == 2 and "ERROR tiny" in said.out and "1 could not run" in said.out
    assert ElementTree.parse("junit.xml").getroot().get("errors") == "1"


def test_one_model_of_several(bench, baseline):
    assert bench("check", "--model", "tiny").code == 0
    said = bench("check", "--model", "other")
    assert said.code == 2 and len(said.err.strip().splitlines()) == 1 and "other" in said.err


@pytest.mark.parametrize("damage", ["", "model\n", "not a table at all"])
def test_a_damaged_baseline_is_one_line(bench, baseline, damage):
    baseline.write_text(damage)
    said = bench("check")
    assert said.code == 2 and len(said.err.strip().splitlines()) == 1


def test_the_stored_baseline_holds(bench):
    """What CI does with `results/baseline.csv`, for one model."""
    stored = ROOT / "results" / "baseline.csv"
    said = bench("check", "--baseline", str(stored), "--model", "mat_digits")
    assert said.code == 0, said.out + said.err
