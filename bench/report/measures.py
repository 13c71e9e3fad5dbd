"""What the numbers mean: accuracies, success rates, sizes and their limits, defined here and nowhere else.

An image is *right* when its clean prediction is its label, and *broken* when it is right, its adversarial example is
lawful and misclassified, and both predictions are finite. Of n images:

- clean accuracy = right / n;
- robust accuracy at eps = (right and not broken within eps) / n;
- success rate = broken / right;
- mean and median size are taken over the broken images alone.

A minimal attack looks for the smallest perturbation and knows no eps. In the norm of the run it counts as breaking an
image at the run's eps (at each eps of a sweep) if its perturbation is within that eps; in another norm, or in a run
without eps, every image that it breaks counts and the row's eps is empty. Its sizes are always over all the images that
it broke, whatever the eps: they are what it was run for.

The `worst` row of a norm and eps is the per-image minimum over all the attacks: an image is robust if no attack broke
it, and its size is the smallest that any attack found. Its costs are the attacks' sums. A stage of an ensemble has rows
of its own, which say what is left after it; the ensemble's hold them, and the worst row counts them once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from bench.core import verdicts
from bench.core.types import NORMS, NOT_FINITE
from bench.report.significance import wilson
from bench.store.record import Record
from bench.store.runs import Run

WORST = "worst"
SUMMARY = (
    "model",
    "data",
    "attack",
    "norm",
    "eps",
    "n",
    "clean_accuracy",
    "robust_accuracy",
    "ci_low",
    "ci_high",
    "success_rate",
    "mean_size",
    "median_size",
    "forwards",
    "backwards",
    "seconds",
)
CURVE = ("eps", "n", "robust_accuracy", "ci_low", "ci_high")


def within(size: Any, eps: float) -> Any:
    """Whether sizes (a number, an array or a column) are within eps, to the rounding of float32 sums."""
    return size <= eps * (1 + verdicts.TOLERANCE)


def flagged(run: Run) -> int:
    """The number of rows whose search or judgement met NaN or infinity: no evidence of robustness."""
    table = run.verdicts
    return int(((table["adv_pred"] == NOT_FINITE) | (table["clean_pred"] == NOT_FINITE)).sum())


def unlawful(run: Run) -> dict[str, int]:
    """How many images each attack proposed that are not finite, outside [0, 1] or beyond eps: the attack is broken."""
    table = run.verdicts
    bad = table[~table["lawful"] & ((table["size"] > 0) | table["size"].isna())]
    return {str(attack): int(count) for attack, count in bad.groupby("attack", sort=False).size().items()}


def claims(run: Run) -> dict[str, tuple[int, int]]:
    """How many images each budgeted attack claimed to have broken, and how many of these the judge confirmed.

    A search gives back the clean image where it failed. The judge denies what one draw of a random model misclassified
    and its own draws do not.
    """
    budgeted = {label for attack in run.record.attacks if not attack.minimal for label in attack.labels}
    table = run.verdicts
    claimed = table[table["attack"].isin(budgeted) & (table["size"] > 0) & (table["label"] == table["clean_pred"])]
    groups = claimed.groupby("attack", sort=False)["broken"]
    return {str(attack): (len(broken), int(broken.sum())) for attack, broken in groups}


@dataclass(frozen=True)
class Outcome:
    """What one attack, or the worst of several, did to each image at one eps.

    `images` has a row an image, by its index in ascending order: right, broken, and size, NaN where nothing was broken.
    """

    attack: str
    norm: str
    eps: float | None
    images: pd.DataFrame
    forwards: int
    backwards: int
    seconds: float

    def letters(self) -> str:
        """One letter an image in the order of the indices: r robust, b broken, w wrong when clean."""
        right, broken = self.images["right"].to_numpy(), self.images["broken"].to_numpy()
        return "".join(np.where(broken, "b", np.where(right, "r", "w")).tolist())

    def numbers(self) -> dict[str, Any]:
        """The numbers of the summary's row."""
        right, broken = int(self.images["right"].sum()), int(self.images["broken"].sum())
        n, sizes = len(self.images), self.images["size"].dropna()
        low, high = wilson(right - broken, n)
        return {
            "attack": self.attack,
            "norm": self.norm,
            "eps": self.eps,
            "n": n,
            "clean_accuracy": _ratio(right, n),
            "robust_accuracy": _ratio(right - broken, n),
            "ci_low": low,
            "ci_high": high,
            "success_rate": _ratio(broken, right),
            "mean_size": fmean(sizes) if len(sizes) else float("nan"),
            "median_size": float(sizes.median()),
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": self.seconds,
        }


def outcomes(run: Run) -> list[Outcome]:
    """Every row of the run's summary as per-image outcomes: the attacks of a norm, then their worst at each eps.

    The run's own norm comes first, attacks in the order of the recipe, eps ascending.
    """
    ranks = {attack: rank for rank, attack in enumerate(dict.fromkeys(run.record.labels))}
    parts = run.record.stage_labels
    groups: Iterable[tuple[Any, pd.DataFrame]] = run.verdicts.groupby(["attack", "norm", "eps"], dropna=False)
    single = [outcome for key, rows in groups for outcome in _outcomes(run.record, key, rows)]
    single.sort(key=lambda outcome: (ranks.get(outcome.attack, len(ranks)), _order(outcome)))
    norms = sorted({outcome.norm for outcome in single}, key=lambda norm: (norm != run.record.norm, NORMS.index(norm)))
    result = []
    for norm in norms:
        here = [outcome for outcome in single if outcome.norm == norm]
        result += here
        for eps in sorted({outcome.eps for outcome in here}, key=lambda eps: -1 if eps is None else eps):
            result.append(worst([outcome for outcome in here if outcome.eps == eps and outcome.attack not in parts]))
    return result


def summary(run: Run) -> pd.DataFrame:
    """The run's main table, columns `SUMMARY`: accuracies as fractions with the Wilson limits of robust accuracy.

    `seconds` is what an attack took in all; in a sweep, at all its eps together.
    """
    who = {"model": run.record.model, "data": run.record.data}
    rows = [who | outcome.numbers() for outcome in outcomes(run)]
    return pd.DataFrame(rows, columns=list(SUMMARY)).astype({"eps": "float64"})


def curve(verdicts: pd.DataFrame, grid: Sequence[float] | None = None) -> pd.DataFrame:
    """Robust accuracy of one attack over eps, columns `CURVE`.

    A minimal attack is thresholded at the grid, by default at every step (see `steps`). A budgeted attack has the eps
    that it was run at; a grid picks some of them.
    """
    budgeted = verdicts[verdicts["eps"].notna()]
    if not len(budgeted):
        return steps(_images(verdicts), grid)
    groups: Iterable[tuple[Any, pd.DataFrame]] = budgeted.groupby("eps")
    return _points([(float(eps), _images(rows)) for eps, rows in groups if grid is None or eps in grid])


def steps(images: pd.DataFrame, grid: Sequence[float] | None = None) -> pd.DataFrame:
    """Robust accuracy over eps, columns `CURVE`, where each image breaks at the size in `images` (see `Outcome`).

    By default at 0 and at each size: between two of them nothing changes.
    """
    chosen = sorted({0.0, *images["size"].dropna()}) if grid is None else grid
    return _points([(eps, _threshold(images, eps)) for eps in chosen])


def worst(attacks: Sequence[Outcome]) -> Outcome:
    """The per-image minimum over outcomes of one norm and eps.

    Only images that every attack has judged count: an unfinished attack must not make an image look robust.
    """
    joined = pd.concat([outcome.images for outcome in attacks], keys=range(len(attacks)))
    by_image = joined.groupby(level=1)
    everywhere = by_image.size() == len(attacks)
    images = by_image.agg({"right": "all", "broken": "any", "size": "min"})[everywhere]
    first = attacks[0]
    return Outcome(
        WORST,
        first.norm,
        first.eps,
        images,
        sum(outcome.forwards for outcome in attacks),
        sum(outcome.backwards for outcome in attacks),
        sum(outcome.seconds for outcome in attacks),
    )


def budgets(record: Record) -> dict[float, str]:
    """Every eps that a run or sweep asked for, ascending, as it was written; empty without one."""
    if record.eps_grid:
        return {float(eps): written for eps, written in sorted(record.eps_grid)}
    return {} if record.eps is None else {float(record.eps): record.eps_written or repr(float(record.eps))}


def _points(points: list[tuple[float, pd.DataFrame]]) -> pd.DataFrame:
    rows = [Outcome("", "", eps, images, 0, 0, 0.0).numbers() for eps, images in points]
    return pd.DataFrame(rows, columns=list(CURVE))


def _ratio(count: int, of: int) -> float:
    return count / of if of else float("nan")


def _order(outcome: Outcome) -> tuple[str, float]:
    return outcome.attack, -1.0 if outcome.eps is None else outcome.eps


def _images(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.set_index("index").sort_index()
    right = rows["label"] == rows["clean_pred"]
    broken = verdicts.broken(rows["label"], rows["clean_pred"], rows["adv_pred"], rows["lawful"])
    return pd.DataFrame({"right": right, "broken": broken, "size": rows["size"].where(broken)})


def _threshold(images: pd.DataFrame, eps: float) -> pd.DataFrame:
    return images.assign(broken=images["broken"] & within(images["size"], eps))


def _outcomes(record: Record, key: tuple[str, str, float], rows: pd.DataFrame) -> list[Outcome]:
    attack, norm, eps = key
    images = _images(rows)
    seconds = float(record.attack_seconds.get(attack, 0.0))
    costs = int(rows["forwards"].sum()), int(rows["backwards"].sum()), seconds
    if not np.isnan(eps):
        return [Outcome(attack, norm, eps, images, *costs)]
    asked = budgets(record) if norm == record.norm else {}
    if not asked:
        return [Outcome(attack, norm, None, images, *costs)]
    return [Outcome(attack, norm, bound, _threshold(images, bound), *costs) for bound in asked]
