"""How near each attack comes to the best of all that was ever tried on a model: AttackBench's local optimality.

Cinà et al. (2025, arXiv 2404.19460, equations 4 and 5) take an attack's curve of robust accuracy over perturbation size
up to eps0, where that of the empirically best attack reaches zero. With the areas under both and the clean accuracy c,

    optimality = (c eps0 - area) / (c eps0 - area of the best),

1 for an attack that is as good as the best on every image, 0 for one that breaks none. The best is, image by image, the
smallest perturbation of all stored attacks. Both curves are step functions, so that, with d the size at which an attack
breaks an image (infinite where it does not), each area is exact and c eps0 - area is the mean of max(eps0 - d, 0) over
the images.

Where the best leaves images standing, its curve never reaches zero; eps0 is then the largest size that it has. Attacks
with a budget are known at some eps alone. There the curve is taken over these eps: what holds at one is taken to hold
from the next smaller one (from 0 for the smallest) up to it, and eps0 is the largest. At a single eps optimality is the
share of the images that the best breaks which the attack breaks as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.core import verdicts
from bench.core.types import NORMS, UserError
from bench.report import measures, render
from bench.report.comparability import refuse_other_images, refuse_two_under_one_name
from bench.store.alike import is_of
from bench.store.record import AttackEntry, Record
from bench.store.runs import Run

COLUMNS = (
    *("run", "attack", "norm", "sizes", "n", "optimality", "broken", "best_broken", "as_good", "alone", "missed"),
    *("passes", "seconds"),
)
HEADINGS = {"best_broken": "best breaks", "as_good": "as good on", "alone": "alone breaks", "seconds": "time (s)"}
READING = (
    "Optimality: the area between clean accuracy and an attack's curve of robust accuracy over that of the per-image "
    "best of all stored attacks (AttackBench): 1 is as good on every image, 0 breaks none. n: images that are right "
    "when clean and that every attack met; as good on: images that it breaks at the size of the best; alone breaks: "
    "images that no attack of another name breaks; missed: images that others break; passes: forward and backward, the "
    "mean of these images, over all these eps; time: of the attack in its run."
)
_SHOWN = 4
"""How many sources of the best are named."""

Grid = tuple[float, ...] | None
"""The eps of a curve; None for one over all sizes."""


@dataclass(frozen=True)
class Met:
    """An attack of a run, and its rows there that count."""

    run: Run
    entry: AttackEntry
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """The attack, as its rows name it."""
        return self.entry.spec

    @property
    def place(self) -> str:
        """Where its run lies."""
        return str(self.run.directory or self.run.record.model)

    def sizes(self, images: pd.Index[Any], grid: Grid) -> pd.Series[float]:
        """The size at which it breaks each image: the smallest that it has, or the least eps of a grid that holds it.

        Infinite where it does not break it.
        """
        broken = self.rows[self.rows["broken"]]
        size = broken.groupby("index")["size"].min().reindex(images).fillna(np.inf)
        if grid is None:
            return size
        steps = pd.Series(np.inf, index=images)
        for eps in sorted(grid, reverse=True):
            steps[measures.within(size, eps)] = eps
        return steps


def scores(runs: Sequence[Run], stored: Sequence[Run]) -> tuple[pd.DataFrame, list[str]]:
    """Every attack of some runs of one model against the best of them and of stored runs of it.

    Args:
        runs: those whose attacks are scored; stages of ensembles are in their ensemble's.
        stored: other runs of the model.

    Returns:
        A row (`COLUMNS`) an attack and kind of curve, the best first, and what to read beside each kind, a line each.

    Raises:
        UserError: the runs are of different models, images, norms or eps, share no image, or have nothing to score.
    """
    _refuse_unlike(runs)
    every = [met for run in (*runs, *stored) for met in _met(run)]
    own = [met for met in every if any(met.run is run for run in runs)]
    lines, notes = list[dict[str, Any]](), list[str]()
    first = runs[0].record.norm
    for norm in sorted({met.entry.norm for met in own}, key=lambda norm: (norm != first, NORMS.index(norm))):
        here, there = ([met for met in side if met.entry.norm == norm] for side in (own, every))
        for grid in _grids(runs) if norm == first else [None]:
            kept = _kept(here, grid)
            if kept:
                rows, said = _section(kept, there, grid)
                lines += rows
                notes.append(said)
    if not lines:
        raise UserError("the runs hold no attack that can be scored: run one with --eps, or a minimal one")
    return pd.DataFrame(lines, columns=list(COLUMNS)), notes


def _refuse_unlike(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        a, b = runs[0], run
        refuse_other_images(a, b)
        refuse_two_under_one_name(a, b)
        for key in ("norm", "weights_sha256"):
            left, right = getattr(a.record, key), getattr(b.record, key)
            if left != right:
                raise UserError(f"{a.directory} and {b.directory} differ in {key}: attacks are scored on one model")
        if not is_of(b.record, a.record):
            raise UserError(f"{a.directory} and {b.directory} are of two models: attacks are scored on one model")


def _met(run: Run) -> Iterator[Met]:
    for entry in run.record.attacks:
        rows = run.verdicts[run.verdicts["attack"] == entry.spec]
        if len(rows):
            yield Met(run, entry, rows)


def _grids(runs: Sequence[Run]) -> list[Grid]:
    """The eps that all runs with any share, if there are such, and None for curves over all sizes."""
    asked = [set(budgets) for run in runs if (budgets := measures.budgets(run.record))]
    if not asked:
        return [None]
    shared = sorted(eps for eps in set.intersection(*asked) if eps > 0)
    if not shared:
        raise UserError("the runs share no eps above 0: score them one by one")
    return [tuple(shared), None]


def _kept(own: Sequence[Met], grid: Grid) -> list[Met]:
    """The attacks that have a curve over a grid, or over all sizes, with the rows that it is made of."""
    if grid is None:
        return [met for met in own if met.entry.minimal]
    return [met if met.entry.minimal else replace(met, rows=met.rows[met.rows["eps"].isin(grid)]) for met in own]


def _common(own: Sequence[Met]) -> pd.Index[Any]:
    """The images that every attack has met, and that are right when clean.

    Raises:
        UserError: there is none.
    """
    common: set[int] | None = None
    for met in own:
        counts = met.rows[met.rows["label"] == met.rows["clean_pred"]].groupby("index").size()
        whole = set(counts.index[counts == counts.max()])
        common = whole if common is None else common & whole
    if not common:
        raise UserError("no image is right when clean and met by every attack: score the runs one by one")
    return pd.Index(sorted(common))


def _reach(size: pd.Series[float], grid: Grid, end: float) -> pd.Series[float]:
    """How much of the sizes up to `end` an image is broken on, by the size at which it is."""
    if grid is None:
        return (end - size).clip(lower=0)
    steps = sorted(grid)
    return size.map(dict(zip(steps, [end - below for below in (0.0, *steps)], strict=False))).fillna(0.0)


def _section(own: Sequence[Met], every: Sequence[Met], grid: Grid) -> tuple[list[dict[str, Any]], str]:
    """The rows of attacks that have one kind of curve, and what the best is made of."""
    images = _common(own)
    sizes = pd.DataFrame({place: met.sizes(images, grid) for place, met in enumerate(every)})
    best = sizes.min(axis=1)
    end = max(grid) if grid else float(best.where(np.isfinite(best)).max())
    reach, lines = _reach(best, grid, end).sum(), []
    for met in own:
        size = met.sizes(images, grid)
        others = sizes[[place for place, other in enumerate(every) if other.name != met.name]].min(axis=1)
        broken, costs = size <= end, met.rows[met.rows["index"].isin(images)]
        values = {
            "run": met.place,
            "attack": met.name,
            "norm": met.entry.norm,
            "sizes": _spelled(own[0].run.record, grid, end),
            "n": len(images),
            "optimality": _reach(size, grid, end).sum() / reach if reach else np.nan,
            "broken": int(broken.sum()),
            "best_broken": int((best <= end).sum()),
            "as_good": int((broken & (size <= best * (1 + verdicts.TOLERANCE))).sum()),
            "alone": int((broken & ~(others <= end)).sum()),
            "missed": int((~broken & (best <= end)).sum()),
            "passes": float((costs["forwards"] + costs["backwards"]).sum() / len(images)),
            "seconds": float(met.run.record.attack_seconds.get(met.name, np.nan)),
        }
        lines.append(values)
    return sorted(lines, key=lambda line: -line["optimality"]), _told(every, sizes, best, lines[0])


def _spelled(record: Record, grid: Grid, end: float) -> str:
    """The sizes that a curve is over, in words."""
    if grid is None:
        return f"0 to {end:.4g}"
    written = measures.budgets(record)
    first, last = (written.get(eps) or f"{eps:.6g}" for eps in (min(grid), max(grid)))
    return last if len(grid) == 1 else f"{first} to {last}, {len(grid)} eps"


def _told(every: Sequence[Met], sizes: pd.DataFrame, best: pd.Series[float], line: Mapping[str, Any]) -> str:
    """Over how many images the best is, and which attacks of which runs it came from."""
    parts = [f"{every[place].name} in {every[place].place} ({count})" for place, count in _sources(sizes, best)]
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    sources = f": {', '.join(parts[:_SHOWN])}{more}" if parts else ""
    partly = sum(not set(best.index) <= set(met.rows["index"]) for met in every)
    some = f", {partly} of which met but some of the images" if partly else ""
    runs = len({met.place for met in every})
    return (
        f"{line['norm']} {line['sizes']}: {line['n']} images; the best of {len(every)} attacks in {runs} runs{some}, "
        f"breaks {line['best_broken']}{sources}"
    )


def _sources(sizes: pd.DataFrame, best: pd.Series[float]) -> list[tuple[int, int]]:
    """Attacks that hold the best between them, and how many images each adds: the one with the most first."""
    left, result = sizes.eq(best, axis=0)[np.isfinite(best)], list[tuple[int, int]]()
    while len(left):
        counts = left.to_numpy().sum(axis=0)
        place = int(counts.argmax())
        result.append((place, int(counts[place])))
        left = left[~left[place]]
    return result


def write(directory: Path, table: pd.DataFrame, notes: Sequence[str], run: Run) -> None:
    """Write `optimality.csv`, `.tex` and `.md`.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    record = run.record
    about = f"Attacks on {record.model} ({record.data}), each against the best of all stored attacks."
    stated = [name for name in ("run", "norm") if table[name].nunique() == 1]
    render.write(
        directory, "optimality", table, about, stated=stated, notes=" ".join([READING, *notes]), headings=HEADINGS
    )
