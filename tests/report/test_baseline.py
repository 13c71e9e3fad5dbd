"""Stored numbers against new ones."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from bench.core.types import UserError, Verdict
from bench.report import baseline
from bench.store import runs
from tests.support.stored_runs import record

LETTERS = "r" * 150 + "b" * 40 + "w" * 10


def run(letters: str, attack: str = "pgd", weights: str = "ab") -> runs.Run:
    rows = []
    for index, letter in enumerate(letters):
        clean, broken = int(letter == "w"), letter == "b"
        adv = 1 if broken else clean
        rows.append(Verdict(index, 0, clean, attack, "linf", 0.1, adv, 0.1 * broken, True, broken, 1, 1))
    return runs.Run(runs.frame(rows), record(data="d", eps=0.1, weights_sha256=weights))


def changed(old: str, new: str, times: int) -> str:
    return LETTERS.replace(old, new, times)


def compare(letters: str, **options: object) -> baseline.RowChange:
    findings = baseline.compare(baseline.rows(run(LETTERS)), baseline.rows(run(letters)), **options)  # type: ignore[arg-type]
    assert [finding.attack for finding in findings] == ["pgd", "worst"]
    return findings[0]


def test_rows_of_a_run() -> None:
    table = baseline.rows(run(LETTERS))
    assert tuple(table.columns) == baseline.COLUMNS
    assert list(table["attack"]) == ["pgd", "worst"]
    first = table.iloc[0]
    assert (first["outcomes"], first["n"], first["clean_accuracy"], first["robust_accuracy"]) == (
        LETTERS,
        200,
        0.95,
        0.75,
    )


def test_a_baseline_is_read_back_exactly(tmp_path: Path) -> None:
    table = pd.concat([baseline.rows(run(LETTERS)), baseline.rows(run("rb", "nan"))[:1]], ignore_index=True)
    baseline.write(tmp_path / "baseline.csv", table)
    read = baseline.read(tmp_path / "baseline.csv")
    pd.testing.assert_frame_equal(read, table, check_exact=True, check_dtype=False)


def test_a_damaged_baseline_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "baseline.csv"
    with pytest.raises(UserError, match="not found"):
        baseline.read(path)
    baseline.write(path, baseline.rows(run("rbw")))
    good = path.read_text()
    for bad, fault in (
        (good.replace("rbw", "rb", 1), "line 2"),
        (good.replace("rbw", "rbx", 1), "line 2"),
        (good.replace("outcomes", "letters"), "other columns"),
        (good + good.splitlines()[1] + "\n", "twice"),
        ("", "cannot be read"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=fault):
            baseline.read(path)


def test_the_same_numbers_hold() -> None:
    same = compare(LETTERS)
    assert (same.verdict, same.lost, same.gained, same.p_value, same.failed) == ("holds", 0, 0, 1.0, False)
    assert baseline.exit_code([same]) == 0


def test_a_few_images_are_tolerated_by_net_change() -> None:
    assert compare(changed("r", "b", 2)).verdict == "holds"
    assert compare(changed("r", "b", 3)).verdict == "fell"
    assert compare(changed("r", "b", 3), tolerance=3).verdict == "holds"
    swapped = "b" * 5 + "r" * 145 + "r" * 5 + "b" * 35 + "w" * 10
    finding = compare(swapped)
    assert (finding.verdict, finding.lost, finding.gained, finding.p_value) == ("holds", 5, 5, 1.0)


def test_a_fall_fails_and_says_by_how_much() -> None:
    fall = compare(changed("r", "b", 10))
    assert (fall.verdict, fall.lost, fall.gained, fall.failed) == ("fell", 10, 0, True)
    # Ten of ten one way: 2 * 0.5^10.
    assert fall.p_value == pytest.approx(2 * 0.5**10)
    assert fall.text == (
        "m pgd linf eps=0.1: robust accuracy 75.00% -> 70.00% of 200 "
        "(10 lost, 0 gained; tolerance 2; p = 0.002 by chance alone): fell"
    )
    assert baseline.exit_code([fall]) == 1


def test_a_rise_fails_unless_allowed() -> None:
    rise = changed("b", "r", 10)
    assert (compare(rise).verdict, compare(rise).failed) == ("rose", True)
    assert (compare(rise, allow_rise=True).verdict, compare(rise, allow_rise=True).failed) == ("rose", False)


def test_a_change_of_clean_accuracy_is_named_as_the_cause() -> None:
    fall = compare(changed("r", "w", 10))
    assert (fall.verdict, fall.lost, fall.failed) == ("clean fell", 10, True)
    assert "clean accuracy 95.00% -> 90.00%" in fall.text
    assert compare(changed("w", "b", 10)).verdict == "clean rose"
    assert not compare(changed("w", "r", 10), allow_rise=True).failed


def test_a_rise_of_clean_accuracy_cannot_excuse_a_fall_of_robust_accuracy() -> None:
    worse = compare(LETTERS.replace("w", "b").replace("r", "b", 20), allow_rise=True)
    assert (worse.verdict, worse.lost, worse.failed) == ("fell", 20, True)


def test_other_images_cannot_be_compared() -> None:
    assert (compare(LETTERS[:-1]).verdict, compare(LETTERS[:-1]).failed) == ("not comparable", True)


def test_other_weights_are_said() -> None:
    (first, _) = baseline.compare(baseline.rows(run(LETTERS)), baseline.rows(run(LETTERS, weights="cd")))
    assert first.text.endswith("other weights than the baseline's") and not first.failed


def test_rows_that_were_not_run_are_missing() -> None:
    old = pd.concat([baseline.rows(run(LETTERS)), baseline.rows(run(LETTERS, "cw"))[:1]])
    new = baseline.rows(run(LETTERS))
    assert list(baseline.missing(old, new)["attack"]) == ["cw"]
    assert len(baseline.compare(old, new)) == 2


def test_junit() -> None:
    findings = [compare(LETTERS), compare(changed("r", "b", 10))]
    suite = ElementTree.fromstring(baseline.junit(findings))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    good, bad = suite
    assert good.find("failure") is None and good.get("name") == "pgd linf eps=0.1"
    failure = bad.find("failure")
    assert failure is not None and failure.get("message") == findings[1].text


def test_two_runs_image_by_image() -> None:
    table = baseline.compare_runs(run("rrrbbw"), run("rbrrbr"))
    assert list(table["attack"]) == ["pgd", "worst"]
    assert table.iloc[0][["n", "both", "only_a", "only_b", "neither"]].tolist() == [6, 2, 1, 2, 1]
    assert table.iloc[0]["p_value"] == pytest.approx(1.0)
    assert baseline.compare_runs(run("r"), run("r", "cw"))["attack"].tolist() == ["worst"]
