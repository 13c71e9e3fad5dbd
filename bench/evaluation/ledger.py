"""What became of every image of a chunk at every eps: written while attacks go on, read as verdicts at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.types import NOT_FINITE, ImageSet, Norm, Verdict
from bench.evaluation import eps_order
from bench.evaluation.judge import Judgement
from bench.ops import passes
from bench.ops.trails import POINTS


@dataclass(frozen=True)
class JudgedTrials:
    """What an attack proposed in trials (m,), its judgement, its passes, and whether its search met NaN."""

    x_adv: Tensor
    judged: Judgement
    tally: passes.Tally

    def replaced(self, rows: Tensor, second: JudgedTrials) -> JudgedTrials:
        """The same with trials `rows` (n,) made a second time: the second result stands, the passes of both count."""
        for column, replacement in zip(self._columns, second._columns, strict=True):
            column[rows] = replacement
        self.tally.add_all(rows, second.tally)
        # That the first search met NaN says nothing of the second, which was made because of it.
        self.tally.not_finite[rows] = second.tally.not_finite
        return self

    @property
    def _columns(self) -> list[Tensor]:
        return [self.x_adv, self.judged.adv_pred, self.judged.size, self.judged.lawful]


def joined(parts: Sequence[JudgedTrials]) -> JudgedTrials:
    """Trials that were made in parts."""
    x_adv, *judged = (torch.cat(column) for column in zip(*(part._columns for part in parts), strict=True))
    tally, at = passes.Tally(len(x_adv), x_adv.device), 0
    for part in parts:
        tally.add_all(torch.arange(at, at + len(part.x_adv), device=x_adv.device), part.tally)
        at += len(part.x_adv)
    return JudgedTrials(x_adv, Judgement(*judged), tally)


class Ledger:
    """What became of each image at each eps (n, L) under an attack or a stage of one: at first, nothing.

    Args:
        part: the images (n,) of a chunk.
        clean_pred: the model's predictions (n,) on them.
        count: L, how many eps there are.
        keep: whether adversarial examples are wanted.
    """

    def __init__(self, part: ImageSet, clean_pred: Tensor, count: int, keep: bool) -> None:
        def everywhere(row: Tensor) -> Tensor:
            return row.unsqueeze(1).repeat_interleave(count, 1)

        self.label, self.clean_pred = everywhere(part.labels), everywhere(clean_pred)
        self.adv_pred = self.clean_pred.clone()
        self.size = torch.zeros(self.label.shape, dtype=torch.float64)
        self.lawful = torch.ones_like(self.label, dtype=torch.bool)
        self.forwards, self.backwards = torch.zeros_like(self.label), torch.zeros_like(self.label)
        self.way = torch.full((*self.label.shape, POINTS), torch.nan)
        self.x_adv = everywhere(part.images[:]) if keep else None

    @property
    def _state(self) -> list[Tensor]:
        kept = [] if self.x_adv is None else [self.x_adv]
        return [self.adv_pred, self.size, self.lawful, *kept]

    @property
    def broken(self) -> Tensor:
        """Whether (n, L) an image was right and its example is lawful and misclassified."""
        return verdicts.broken(self.label, self.clean_pred, self.adv_pred, self.lawful)

    def passes_left(self, most: int | None) -> Tensor:
        """How many passes (n, L) each image may still take at each eps, of `most` in all; no end of them without."""
        if most is None:
            return torch.full_like(self.forwards, torch.iinfo(torch.int64).max)
        return most - self.forwards - self.backwards

    def write(self, image: Tensor, level: Tensor, trials: JudgedTrials) -> None:
        """Enter what an attack did in trials (m,), and its passes.

        A break is entered in any case, anything else only where the clean image stands.
        """
        # A failed search that met NaN or infinity is flagged.
        lost = trials.tally.not_finite & (trials.judged.size == 0)
        adv_pred = torch.where(lost, NOT_FINITE, trials.judged.adv_pred).cpu()
        lawful, label = trials.judged.lawful.cpu() & (adv_pred != NOT_FINITE), self.label[image, level]
        untouched = (self.adv_pred[image, level] == label) & (self.size[image, level] == 0)
        new = untouched | verdicts.broken(label, self.clean_pred[image, level], adv_pred, lawful)
        entries = [adv_pred, trials.judged.size.cpu(), lawful, trials.x_adv.cpu()]
        for column, entry in zip(self._state, entries, strict=False):
            column[image[new], level[new]] = entry[new].to(column.dtype)
        self.count(image, level, trials.tally)

    def count(self, image: Tensor, level: Tensor, tally: passes.Tally) -> None:
        """Add the passes of trials (m,), and enter how their search went."""
        self.forwards[image, level] += tally.forwards.cpu()
        self.backwards[image, level] += tally.backwards.cpu()
        self.way[image, level] = tally.trail.points(len(image))

    def take(self, image: Tensor, level: Tensor, other: Ledger, source: Tensor) -> None:
        """Take over the state, not the passes, that another ledger has of images (m,) at the eps `source` (m,)."""
        for column, theirs in zip(self._state, other._state, strict=True):
            column[image, level] = theirs[image, source]

    def verdicts(self, indices: Tensor, attack: str, norm: Norm, bounds: Sequence[float | None]) -> Iterator[Verdict]:
        """Its rows, by image and then by eps, of which `bounds` has L; `indices` (n,) are the images'."""
        columns = (self.label, self.clean_pred, self.adv_pred, self.size, self.lawful, self.broken)
        images = zip(*(column.tolist() for column in (*columns, self.forwards, self.backwards)), strict=True)
        for index, cells in zip(indices.tolist(), images, strict=True):
            for eps, (label, clean_pred, *rest) in zip(bounds, zip(*cells, strict=True), strict=True):
                yield Verdict(index, label, clean_pred, attack, norm, eps, *rest)


def settle(
    order: eps_order.Order, unsettled: Tensor, ledgers: list[Ledger], total: Ledger, image: Tensor, level: Tensor
) -> None:
    """Enter what the verdicts of images (m,) at their `level` (m,) say of other eps, and cross those trials off."""
    if order == "independent":
        return
    at, broken = torch.zeros(len(unsettled), dtype=torch.int64), torch.zeros(len(unsettled), dtype=torch.bool)
    at[image], broken[image] = level, total.broken[image, level]
    above, below = eps_order.implied(unsettled, at, broken, order)
    rows, places = above.nonzero(as_tuple=True)
    for ledger in ledgers:
        ledger.take(rows, places, total, at[rows])
    unsettled &= ~(above | below)
