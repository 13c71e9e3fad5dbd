"""`--extend` adds attacks to a run: the bytes of one run with all of them, and nothing of another model or setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RUN = ("run", "--model", "tiny", "-n", "30", "--eps", "0.1", "--save-adversarial")
FILES = ("verdicts.csv", "adversarial.npz", "losses.csv")


@pytest.fixture
def begun(bench) -> Path:
    assert bench(*RUN, "--attacks", "pgd(steps=5),ddn(steps=5)", "--out", "out").code == 0
    return Path("out")


def test_it_is_one_run_to_the_byte(bench, begun: Path) -> None:
    assert bench(*RUN, "--attacks", "pgd(steps=5),ddn(steps=5),fgsm", "--out", "whole").code == 0
    assert bench(*RUN, "--attacks", "fgsm", "--out", "out", "--extend").code == 0
    for name in FILES:
        assert (begun / name).read_bytes() == Path("whole", name).read_bytes(), name
    record = json.loads((begun / "run.json").read_text())
    assert record["finished"] and [attack["spec"] for attack in record["attacks"]] == [
        "pgd(steps=5)",
        "ddn(steps=5)",
        "fgsm",
    ]
    assert bench("verify", "out").code == 0


def test_an_attack_that_is_there_is_not_made_again(bench, begun: Path) -> None:
    before = {name: (begun / name).read_bytes() for name in FILES}
    assert bench(*RUN, "--attacks", "pgd(steps=5)", "--out", "out", "--extend").code == 0
    assert {name: (begun / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--seed", "1"), "seed 0, not 1"),
        (("--eps", "0.2"), "eps 0.1, not 0.2"),
        (("-n", "20"), "other indices"),
        (("--norm", "l2"), 'norm "linf", not "l2"'),
    ],
)
def test_other_settings_are_refused_and_nothing_changes(bench, begun: Path, words, reason: str) -> None:
    before = {path.name: path.read_bytes() for path in begun.iterdir() if path.is_file()}
    said = bench(*RUN, *words, "--attacks", "fgsm", "--out", "out", "--extend")
    assert said.code == 2 and reason in said.err
    assert {path.name: path.read_bytes() for path in begun.iterdir() if path.is_file()} == before


def test_without_a_run_or_with_resume_it_is_refused(bench) -> None:
    said = bench(*RUN, "--attacks", "fgsm", "--out", "nowhere", "--extend")
    assert said.code == 2 and "holds no run to extend" in said.err
    said = bench(*RUN, "--attacks", "fgsm", "--out", "nowhere", "--extend", "--resume")
    assert said.code == 2 and "exclude each other" in said.err


def test_rows_that_were_edited_are_not_extended(bench, begun: Path) -> None:
    path = begun / "verdicts.csv"
    path.write_text(path.read_text().replace("True,True", "True,False", 1))
    said = bench(*RUN, "--attacks", "fgsm", "--out", "out", "--extend")
    assert said.code == 2 and "was edited" in said.err
