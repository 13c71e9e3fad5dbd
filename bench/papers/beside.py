"""Measured cells beside printed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report import measures, significance
from bench.report.measures import Outcome
from bench.report.model_runs import Judged

Key = tuple[Any, ...]
"""The data set of a row and what else tells it apart: what a measured row and a printed one have in common."""
Cells = dict[str, Any]
"""Some columns of a row."""
Printed = dict[Key, Cells]
"""The printed numbers of each row."""
Measured = dict[Key, list[Cells]]
"""The models of each row, with what was measured of them."""


def fraction(line: Mapping[Any, Any]) -> float:
    """A printed percentage as a fraction."""
    return round(float(line["value"]) / 100, 6)


def accuracy(name: str, outcome: Outcome | None) -> Cells:
    """Robust accuracy as the column `name`, with its Wilson limits in `name`_low and `name`_high."""
    if outcome is None:
        return {}
    numbers = outcome.numbers()
    return {name: numbers["robust_accuracy"], f"{name}_low": numbers["ci_low"], f"{name}_high": numbers["ci_high"]}


def sizes(name: str, attack: Judged | None) -> Cells:
    """What a minimal attack needed: n, steps, mean with normal limits and median over its successes, success rate."""
    if attack is None:
        return {}
    images = attack.outcome.images
    broken, right = images["size"].dropna(), int(images["right"].sum())
    low, high = significance.mean(broken.tolist())
    return {
        f"{name}_n": attack.n,
        f"{name}_steps": steps([attack]),
        f"{name}_mean_size": float(broken.mean()),
        f"{name}_mean_size_low": low,
        f"{name}_mean_size_high": high,
        f"{name}_median_size": float(broken.median()),
        f"{name}_success_rate": len(broken) / right if right else float("nan"),
    }


def steps(attacks: Sequence[Judged]) -> str:
    """The steps of attacks as `steps_of` writes them; different ones with a slash."""
    return "/".join(sorted({steps_of(attack.fields) for attack in attacks} - {""}))


def steps_of(fields: Mapping[str, Any]) -> str:
    """The steps in an attack's fields, "40" or "9 × 1000" for as many searches of so many; empty without any."""
    count, searches = fields.get("steps"), fields.get("searches")
    return "" if not count else f"{searches} × {count}" if searches else str(count)


def together(*outcomes: Outcome | None) -> list[Outcome | None]:
    """Outcomes cut down to the images that all of them have."""
    images = [set(outcome.images.index) for outcome in outcomes if outcome is not None]
    common = set.intersection(*images) if images else set()
    return [outcome and _among(outcome, common) for outcome in outcomes]


def _among(outcome: Outcome, indices: set[int]) -> Outcome:
    images = outcome.images[outcome.images.index.isin(indices)]
    return measures.worst([Outcome(outcome.attack, outcome.norm, outcome.eps, images, 0, 0, 0.0)])


def beside(columns: Sequence[str], printed: Printed, measured: Measured) -> pd.DataFrame:
    """Rows by data set, in the order of the printed ones, each with every model measured for it.

    A key's parts fill the first columns.
    """
    keys = list(dict.fromkeys([*printed, *measured]))
    data = list(dict.fromkeys(key[0] for key in keys))
    tails = list(dict.fromkeys(key[1:] for key in printed))

    def place(key: Key) -> tuple[int, int]:
        if key[1:] in tails:
            return data.index(key[0]), tails.index(key[1:])
        # Behind the first printed row of the same defense, whatever the other parts are.
        alike = (rank for rank, tail in enumerate(tails) if tail[:1] == key[1:2])
        return data.index(key[0]), next(alike, len(tails))

    rows = [
        dict(zip(columns, key, strict=False)) | printed.get(key, {}) | cells
        for key in sorted(keys, key=place)
        for cells in measured.get(key) or [{}]
    ]
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: "Int64" for name in columns if name == "n" or name.endswith("_n")})
