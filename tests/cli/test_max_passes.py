"""`--max-passes` and `compare --attacks`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

TINY = ["--model", "tiny", "-n", "30", "--eps", "0.1"]


def one_line(said, *parts: str) -> None:
    """A fault is a single line that holds all the parts."""
    assert said.code == 2, said
    (line,) = said.err.strip().splitlines()
    assert all(part in line for part in parts), line


def _rows(folder: str) -> pd.DataFrame:
    return pd.read_csv(Path(folder) / "verdicts.csv")


def test_a_run_is_held_recorded_resumed_and_not_mixed(bench):
    words = ["run", *TINY, "--attacks", "pgd(steps=40),fmn(steps=30),square(queries=90)", "--max-passes", "13"]
    said = bench(*words, "--out", "whole")
    assert said.code == 0, said
    assert "at most 13 passes an image" in said.out
    rows = _rows("whole")
    assert (rows["forwards"] + rows["backwards"]).max() == 13
    assert json.loads(Path("whole/run.json").read_text())["max_passes"] == 13
    assert "at most 13 passes an image" in Path("whole/table.tex").read_text()
    text = Path("whole/verdicts.csv").read_text()
    assert bench(*words, "--out", "again").code == 0
    Path("again/verdicts.csv").write_text("".join(text.splitlines(keepends=True)[:41]))
    assert bench(*words, "--out", "again", "--resume").code == 0
    assert Path("again/verdicts.csv").read_text() == text
    other = [*words[:-1], "14"]
    one_line(bench(*other, "--out", "again", "--resume"), "max_passes 13, not 14")
    one_line(bench(*words[:-2], "--out", "again", "--resume"), "max_passes 13, not null")
    one_line(bench("run", *TINY, "--attacks", "fgsm", "--out", "again", "--extend"), "max_passes 13, not null")
    assert bench("run", *TINY, "--attacks", "fgsm", "--max-passes", "13", "--out", "again", "--extend").code == 0


def test_a_sweep_counts_at_each_eps(bench):
    said = bench(
        "sweep-eps", *TINY[:-2], "--eps", "0.05,0.1", "--attack", "pgd(steps=40)", "--max-passes", "9", "--out", "s"
    )
    assert said.code == 0, said
    rows = _rows("s")
    spent = (rows["forwards"] + rows["backwards"]).groupby(rows["eps"]).max()
    assert spent.tolist() == [9, 9]


@pytest.mark.parametrize("written", ["0", "-1", "many", "1.5", "9" * 30])
def test_other_words_are_refused(bench, written):
    one_line(bench("run", *TINY, "--attacks", "pgd", "--max-passes", written), "--max-passes")


def test_what_cannot_be_held_is_refused(bench):
    said = bench("run", *TINY, "--attacks", "foolbox:LinfFastGradientAttack", "--max-passes", "9")
    if "not installed" not in said.err:
        one_line(said, "foolbox:LinfFastGradientAttack")
    one_line(bench("run", *TINY, "--attacks", "pgd", "--max-passes", "9", "--until-sound"), "exclude each other")


def test_rows_that_cost_more_than_their_run_allows_are_damage(bench):
    assert bench("run", *TINY, "--attacks", "pgd(steps=40)", "--max-passes", "9", "--out", "a").code == 0
    record = json.loads(Path("a/run.json").read_text())
    record["max_passes"] = 8
    Path("a/run.json").write_text(json.dumps(record))
    one_line(bench("audit", "a"), "run.json")


def test_attacks_are_scored_against_all_that_is_stored(bench):
    for name, written in (("weak", "fgsm"), ("strong", "margin(steps=30)")):
        assert bench("run", *TINY, "--attacks", written, "--out", f"results/runs/{name}").code == 0
    said = bench("compare", "--attacks", "results/runs/weak", "--out", "scored")
    assert said.code == 0, said
    table = pd.read_csv("scored/optimality.csv")
    weak, strong = (_rows(f"results/runs/{name}")["broken"].sum() for name in ("weak", "strong"))
    assert table["optimality"].tolist() == [pytest.approx(weak / table["best_broken"].item())]
    assert table["best_broken"].item() >= strong > weak
    assert "2 runs" in said.out and "results/runs/strong" in said.out
    alone = bench("compare", "--attacks", "results/runs/weak", "--runs", "results/runs/weak")
    assert "the best of 1 attacks" in alone.out
    both = bench("compare", "--attacks", "results/runs/weak", "results/runs/strong", "--runs", "results/runs")
    assert both.code == 0 and "margin(steps=30)" in both.out


def test_what_cannot_be_scored_is_told_in_a_line(bench):
    assert bench("run", *TINY, "--attacks", "fgsm", "--out", "a").code == 0
    assert bench("run", *TINY[:-2], "--norm", "l2", "--eps", "0.5", "--attacks", "fgsm", "--out", "b").code == 0
    one_line(bench("compare", "--attacks", "a", "b"), "differ in norm")
    one_line(bench("compare", "--attacks", "nowhere"), "nowhere")
    one_line(bench("compare", "--attacks"), "RUN")
    one_line(bench("compare", "a"), "two runs")
    one_line(bench("compare", "a", "b", "--out", "c"), "--attacks")
    said = bench("compare", "--attacks", "a", "nowhere")
    assert said.code == 0 and "skipped nowhere" in said.err
