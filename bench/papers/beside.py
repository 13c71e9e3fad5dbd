"""Measured cells beside printed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.report import measures, significance
from bench.report.measures import Outcome
from bench.report.model_runs import Judged

Cells = dict[str, Any]


def share(line: Mapping[Any, Any]) -> float:
    """A printed percentage as a fraction."""
    return round(float(line["value"]) / 100, 6)


def accuracy(name: str, outcome: Outcome | None) -> Cells:
    """Robust accuracy as the column `name`, with its Wilson limits in `name`_low and `name`_high."""
    if outcome is None:
        return {}
    found = outcome.numbers()
    return {name: found["robust_accuracy"], f"{name}_low": found["ci_low"], f"{name}_high": found["ci_high"]}


def sizes(name: str, attack: Judged | None) -> Cells:
    """What a minimal attack needed: n, steps, mean with normal limits and median over its successes, success rate."""
    if attack is None:
        return {}
    images = attack.outcome.images
    found, right = images["size"].dropna(), int(images["right"].sum())
    low, high = significance.mean(found.tolist())
    return {
        f"{name}_n": attack.n,
        f"{name}_steps": steps([attack]),
        f"{name}_mean_size": float(found.mean()),
        f"{name}_mean_size_low": low,
        f"{name}_mean_size_high": high,
        f"{name}_median_size": float(found.median()),
        f"{name}_success_rate": len(found) / right if right else float("nan"),
    }


def steps(attacks: Sequence[Judged]) -> str:
    """The steps of attacks as `steps_of` writes them; different ones with a slash."""
    return "/".join(sorted({steps_of(one.fields) for one in attacks} - {""}))


def steps_of(fields: Mapping[str, Any]) -> str:
    """The steps in an attack's fields, "40" or "9 × 1000" for as many searches of so many; empty without any."""
    count, searches = fields.get("steps"), fields.get("searches")
    return "" if not count else f"{searches} × {count}" if searches else str(count)


def together(*outcomes: Outcome | None) -> list[Outcome | None]:
    """Outcomes cut down to the images that all of them have."""
    there = [one for one in outcomes if one is not None]
    common = set.intersection(*(set(one.images.index) for one in there)) if there else set()
    return [one and _among(one, common) for one in outcomes]


def _among(outcome: Outcome, indices: set[int]) -> Outcome:
    images = outcome.images[outcome.images.index.isin(indices)]
    return measures.worst([Outcome(outcome.attack, outcome.norm, outcome.eps, images, 0, 0, 0.0)])


def beside(
    columns: Sequence[str], known: Mapping[tuple[Any, ...], Cells], measured: Mapping[tuple[Any, ...], Sequence[Cells]]
) -> pd.DataFrame:
    """Rows by data set, in the order of the printed ones, each with every model measured for it.

    A key's parts fill the first columns.
    """
    keys = list(dict.fromkeys([*known, *measured]))
    data = list(dict.fromkeys(key[0] for key in keys))
    tails = list(dict.fromkeys(key[1:] for key in known))

    def place(key: tuple[Any, ...]) -> tuple[int, int]:
        alike = (rank for rank, tail in enumerate(tails) if tail[0] == key[1])
        return data.index(key[0]), tails.index(key[1:]) if key[1:] in tails else next(alike, len(tails))

    rows = [
        dict(zip(columns, key, strict=False)) | known.get(key, {}) | cells
        for key in sorted(keys, key=place)
        for cells in measured.get(key) or [{}]
    ]
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: "Int64" for name in columns if name == "n" or name.endswith("_n")})
