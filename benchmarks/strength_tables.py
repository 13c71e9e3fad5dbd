"""The tables of `benchmarks.strength`: each attack beside its namesakes, best of sets, and what a preset would cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from bench.report import render
from benchmarks.strength_cases import OURS

_CAPTION = (
    "Minimal-norm attacks on the first 100 correctly classified images, re-judged in float32 outside the attack: "
    "median and mean of the sizes (a failure counts as infinite in the median and is left out of the mean), cost."
)


def sizes(row: Any) -> np.ndarray[Any, Any]:
    """The sizes (n,) of a stored row, infinite where nothing was found."""
    return np.array([float(size) for size in str(row).split()])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a stored row, `to_best` being the median over the images of size over the smallest that any row holds."""
    lines = []
    for (model, norm), group in rows.groupby(["model", "norm"], sort=False):
        found = np.stack([sizes(cell) for cell in group["sizes"]])
        best = found.min(0)
        for place, row in zip(found, group.to_dict("records"), strict=True):
            solved = np.isfinite(place)
            lines.append(
                {
                    "model": model,
                    "norm": norm,
                    "family": row["family"],
                    "attack": row["attack"],
                    "success_rate": solved.mean(),
                    "median_size": np.median(place),
                    "mean_size": place[solved].mean() if solved.any() else math.nan,
                    "to_best": np.median(place / best),
                    "forwards": row["forwards"],
                    "backwards": row["backwards"],
                    "seconds": row["seconds"],
                }
            )
    return pd.DataFrame(lines)


def bests(rows: pd.DataFrame) -> pd.DataFrame:
    """The per-image best of ours, of each library and of all peers, with the images that ours lose and win."""
    lines = []
    for (model, norm), group in rows.groupby(["model", "norm"], sort=False):
        mine = _best(group[group["library"] == OURS])
        parts = {"bench": mine, "all peers": _best(group[group["library"] != OURS])}
        parts |= {name: _best(part) for name, part in group.groupby("library") if name != OURS}
        for name, found in parts.items():
            lines.append(
                {
                    "model": model,
                    "norm": norm,
                    "best of": name,
                    "median_size": np.median(found),
                    "mean_size": found[np.isfinite(found)].mean(),
                    "ours larger by 1%": int((mine > 1.01 * found).sum()),
                    "ours smaller by 1%": int((found > 1.01 * mine).sum()),
                    "largest excess of ours": float((mine / found).max()),
                }
            )
    return pd.DataFrame(lines)


def namesakes(rows: pd.DataFrame) -> pd.DataFrame:
    """Ours against each peer's attack of the same family, paired by image.

    `smaller` and `larger` count the images on which ours found less and more; `ratio` is the geometric mean of ours
    over theirs where both found something, and `p` Wilcoxon's signed-rank test of its logarithm, two-sided.
    """
    lines = []
    for (model, norm, family), group in rows.groupby(["model", "norm", "family"], sort=False):
        for _, own in group[group["library"] == OURS].iterrows():
            for _, other in group[group["library"] != OURS].iterrows():
                mine, theirs = sizes(own["sizes"]), sizes(other["sizes"])
                both = np.isfinite(mine) & np.isfinite(theirs)
                logs = np.log(mine[both] / theirs[both])
                lines.append(
                    {
                        "model": model,
                        "norm": norm,
                        "family": family,
                        "peer": other["library"],
                        "median": np.median(mine),
                        "median of peer": np.median(theirs),
                        "smaller": int((mine < theirs).sum()),
                        "larger": int((mine > theirs).sum()),
                        "ratio": float(np.exp(logs.mean())) if len(logs) else math.nan,
                        "p": float(wilcoxon(logs).pvalue) if logs.any() else 1.0,
                    }
                )
    return pd.DataFrame(lines)


def sets(rows: pd.DataFrame, most: int = 3, shown: int = 5) -> pd.DataFrame:
    """The best sets of one to `most` of our attacks, `shown` of each count, and the passes that an image costs.

    `excess` is the mean over the images of both models of the set's best over the best of all rows, at most 10.
    """
    lines = []
    for norm, part in rows.groupby("norm", sort=False):
        mine = part[part["library"] == OURS]
        everywhere = mine.groupby("attack")["model"].nunique() == part["model"].nunique()
        for count in range(1, most + 1):
            for names in combinations(sorted(everywhere.index[everywhere]), count):
                lines.append({"norm": norm, "count": count, "attacks": ", ".join(names), **_of_set(part, names)})
    table = pd.DataFrame(lines).sort_values(["norm", "count", "excess"], kind="stable")
    return table.groupby(["norm", "count"]).head(shown).reset_index(drop=True)


def _of_set(part: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    cells: dict[str, float] = {}
    excess, passes = [], []
    for model, group in part.groupby("model", sort=False):
        chosen = group[group["attack"].isin(list(names))]
        found = _best(chosen)
        cells[f"median {model}"] = float(np.median(found))
        excess.append(np.clip(found / _best(group), None, 10))
        passes.append(float((chosen["forwards"] + chosen["backwards"]).sum()))
    return cells | {
        "excess": float(np.mean(np.concatenate(excess))),
        "largest excess": float(np.max(np.concatenate(excess))),
        "passes": float(np.mean(passes)),
    }


def _best(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.stack([sizes(cell) for cell in rows["sizes"]]).min(0)


def write(rows: pd.DataFrame, place: Path) -> None:
    """Write strength, best and sets as .csv, .md and .tex."""
    render.write(place, "strength", summary(rows), _CAPTION)
    render.write(place, "namesakes", namesakes(rows), "Ours against peers' attacks of the same name, paired by image.")
    render.write(place, "best", bests(rows), "Per-image best of sets of minimal-norm attacks.")
    render.write(place, "sets", sets(rows), "Per-image best of small sets of our attacks, over the best of all rows.")
