"""Stored numbers against new ones, image by image.

A baseline keeps what became of every image, not only how many were lost, so that a change is tested by McNemar's exact
test: of the images whose outcome differs, chance would move as many up as down.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pandas as pd

from bench.core.files import one_line, read_text, write_atomically
from bench.core.places import is_file
from bench.core.types import UserError
from bench.report import measures
from bench.report.comparability import refuse_other_images, refuse_two_under_one_name
from bench.report.render import csv
from bench.report.significance import mcnemar
from bench.store.runs import Run

COLUMNS = (
    "model",
    "data",
    "split",
    "n",
    "seed",
    "norm",
    "eps",
    "attack",
    "weights_sha256",
    "clean_accuracy",
    "robust_accuracy",
    "outcomes",
)
KEY = ("model", "data", "split", "seed", "norm", "eps", "attack")
"""What names a row of a baseline."""

Conclusion = Literal["holds", "fell", "rose", "clean fell", "clean rose", "not comparable"]

_TEXT = dict.fromkeys(("model", "data", "split", "norm", "attack", "weights_sha256", "outcomes"), "str")


@dataclass(frozen=True)
class RowChange:
    """What became of one row of the baseline.

    `lost` images were robust (or, where the conclusion is about clean accuracy, right) and are no longer; `gained` is
    the reverse; `p_value` is how likely chance alone moves so many one way.
    """

    model: str
    attack: str
    norm: str
    eps: float | None
    n: int
    lost: int
    gained: int
    p_value: float
    verdict: Conclusion
    text: str
    failed: bool


def rows(run: Run) -> pd.DataFrame:
    """The baseline rows (`COLUMNS`) of a run, its worst rows included; `outcomes` has a letter an image (`letters`).

    Stages of an ensemble are left out: they cannot be run without it.
    """
    parts = run.record.stage_labels
    same = {name: getattr(run.record, name) for name in ("model", "data", "split", "seed", "weights_sha256")}
    lines = []
    for outcome in measures.outcomes(run):
        if outcome.attack not in parts:
            lines.append({**same, **outcome.numbers(), "outcomes": outcome.letters()})
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype({"eps": "float64"})


def write(path: Path, baseline: pd.DataFrame) -> None:
    """Write a baseline file.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    write_atomically(path, csv(baseline[list(COLUMNS)]))


def read(path: Path) -> pd.DataFrame:
    """Read a baseline file.

    Raises:
        UserError: it is missing or damaged.
    """
    if not is_file(path):
        raise UserError(f"baseline {path} not found: give another --baseline")
    try:
        text = read_text(path)
        table = pd.read_csv(
            io.StringIO(text), dtype=_TEXT, keep_default_na=False, na_values={"eps": [""]}, float_precision="round_trip"
        )
        if tuple(table.columns) != COLUMNS:
            raise UserError(f"baseline {path} has other columns than {','.join(COLUMNS)}: write it again")
        table = table.astype({"n": "int64", "seed": "int64", "eps": "float64"})
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"baseline {path} cannot be read ({one_line(error)}): write it again") from None
    if not (table["eps"].isna() | ((table["eps"] >= 0) & (table["eps"] < math.inf))).all():
        raise UserError(f"baseline {path} has an eps below 0, or an infinite one: write it again")
    for place, (n, outcomes) in enumerate(zip(table["n"], table["outcomes"], strict=True)):
        if len(outcomes) != n or set(outcomes) - set("rbw"):
            raise UserError(f"baseline {path} line {place + 2}: outcomes is not {n} letters r, b or w: write it again")
    if table.duplicated(list(KEY)).any():
        raise UserError(f"baseline {path} has a row twice: each {', '.join(KEY)} may stand once")
    return table


def compare(
    baseline: pd.DataFrame, new: pd.DataFrame, allow_rise: bool = False, tolerance: int | None = None
) -> list[RowChange]:
    """Compare each baseline row that was run again with its new numbers; rows that were not are the caller's concern.

    Args:
        baseline: the stored rows.
        new: the rows that were made again.
        allow_rise: do not fail a row whose accuracy rose. By default it fails: a number that is suddenly better is more
            often a broken attack than a better model.
        tolerance: how many images a row may lose or gain on balance; by default 1 % of them and at least one. On one
            machine results repeat exactly, but another processor may round a few images over the edge.

    Returns:
        What became of each row that both have.
    """
    key = list(KEY)
    pairs = baseline.merge(new, on=key, suffixes=("_old", "_new"), validate="one_to_one")
    return [_row_change(line, allow_rise, tolerance) for line in pairs.to_dict("records")]


def missing(baseline: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The baseline rows that have no new numbers: they could not be run."""
    key = list(KEY)
    was_run = baseline[key].merge(new[key], on=key, how="left", indicator=True)["_merge"] == "both"
    return baseline[~was_run.to_numpy()]


def compare_runs(a: Run, b: Run) -> pd.DataFrame:
    """Two runs image by image: per attack, norm and eps that both have, on the images that both have.

    Columns: attack, norm, eps, n, both (robust in both), only_a, only_b, neither, p_value.

    Raises:
        UserError: the runs are on different images, share none or no norm and eps, or are of two models that go by one
            name and hash.
    """
    refuse_other_images(a, b)
    refuse_two_under_one_name(a, b)
    others = {(outcome.attack, outcome.norm, outcome.eps): outcome.images for outcome in measures.outcomes(b)}
    lines = []
    for outcome in measures.outcomes(a):
        other = others.get((outcome.attack, outcome.norm, outcome.eps))
        if other is None:
            continue
        robust = [images["right"] & ~images["broken"] for images in (outcome.images, other)]
        left, right = robust[0].align(robust[1], join="inner")
        counts = [int(which.sum()) for which in (left & right, left & ~right, ~left & right, ~left & ~right)]
        lines.append((outcome.attack, outcome.norm, outcome.eps, len(left), *counts, mcnemar(counts[1], counts[2])))
    if not lines:
        raise UserError("the runs share no norm and eps: nothing to compare")
    columns = ["attack", "norm", "eps", "n", "both", "only_a", "only_b", "neither", "p_value"]
    return pd.DataFrame(lines, columns=columns).astype({"eps": "float64"})


def exit_code(changes: Iterable[RowChange]) -> int:
    """0 if everything holds, 1 if a row failed."""
    return int(any(change.failed for change in changes))


def junit(changes: Sequence[RowChange]) -> str:
    """The changes as JUnit XML, a test case each, for a CI server."""
    failures = sum(change.failed for change in changes)
    suite = ElementTree.Element("testsuite", name="bench check", tests=str(len(changes)), failures=str(failures))
    for change in changes:
        case = ElementTree.SubElement(suite, "testcase", classname=change.model, name=_name(change))
        if change.failed:
            ElementTree.SubElement(case, "failure", message=change.text, type=change.verdict)
        else:
            ElementTree.SubElement(case, "system-out").text = change.text
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _name(change: RowChange) -> str:
    return f"{change.attack} {change.norm}" + ("" if change.eps is None else f" eps={change.eps:.6g}")


def _moved(old: str, new: str, counts: str) -> tuple[int, int]:
    """Images that were among the letters `counts` and are no longer, and the reverse."""
    before, after = ([letter in counts for letter in outcomes] for outcomes in (old, new))
    moves = [was - now for was, now in zip(before, after, strict=True)]
    return moves.count(1), moves.count(-1)


def _row_change(line: Mapping[Any, Any], allow_rise: bool, tolerance: int | None) -> RowChange:
    old, new, n = line["outcomes_old"], line["outcomes_new"], int(line["n_old"])
    eps = None if math.isnan(line["eps"]) else float(line["eps"])
    row = line["model"], line["attack"], line["norm"], eps, n
    where = f"{line['model']} {line['attack']} {line['norm']}" + ("" if eps is None else f" eps={eps:.6g}")
    if len(old) != len(new):
        text = f"{where}: {n} images in the baseline, {len(new)} now: not comparable"
        return RowChange(*row, 0, 0, 1.0, "not comparable", text, True)
    allowed = max(1, n // 100) if tolerance is None else tolerance
    clean, robust = _moved(old, new, "rb"), _moved(old, new, "r")
    # Any fall before any rise, so that no rise can excuse it; clean before robust, which it is a cause of.
    ranked: list[tuple[Conclusion, str, tuple[int, int], int]] = [
        ("clean fell", "clean", clean, clean[0] - clean[1]),
        ("fell", "robust", robust, robust[0] - robust[1]),
        ("clean rose", "clean", clean, clean[1] - clean[0]),
        ("rose", "robust", robust, robust[1] - robust[0]),
    ]
    holds: tuple[Conclusion, str, tuple[int, int], int] = ("holds", "robust", robust, 0)
    verdict, what, (lost, gained), _ = next((change for change in ranked if change[3] > allowed), holds)
    failed = verdict != "holds" and not (allow_rise and verdict in ("rose", "clean rose"))
    p_value = mcnemar(lost, gained)
    share = [sum(letter in ("rb" if what == "clean" else "r") for letter in outcomes) / n for outcomes in (old, new)]
    text = (
        f"{where}: {what} accuracy {_percent(share[0])} -> {_percent(share[1])} of {n} "
        f"({lost} lost, {gained} gained; tolerance {allowed}; p = {p_value:.2g} by chance alone): {verdict}"
    )
    if line["weights_sha256_old"] != line["weights_sha256_new"]:
        text += "; other weights than the baseline's"
    return RowChange(*row, lost, gained, p_value, verdict, text, failed)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
