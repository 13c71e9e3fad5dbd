"""Chunks of attacked and judged images: what the judge denies of a search on another form of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from bench.core.types import NOT_FINITE, Budget, ImageSet, Norm, ThreatModel, Verdict
from bench.evaluation import schedule
from bench.evaluation.plan import Planned
from bench.ops import active_set, norms, passes


class Interval(nn.Module):
    """Class 0 for a pixel within its bounds, else class 1; NaN above `nan_above` and below `nan_below`."""

    def __init__(self, low: float, high: float, nan_below: float = -1.0, nan_above: float = 2.0) -> None:
        super().__init__()
        self.low, self.high, self.nan_below, self.nan_above = low, high, nan_below, nan_above

    def forward(self, x: Tensor) -> Tensor:
        pixel = x.flatten(1)[:, 0]
        outside = torch.maximum(self.low - pixel, pixel - self.high)
        outside = torch.where((pixel < self.nan_below) | (pixel > self.nan_above), torch.nan, outside)
        return torch.stack([-outside, outside], 1)


@dataclass(frozen=True)
class BothWays:
    """Tries eps darker, then eps brighter, and keeps the last success.

    With `nan` it proposes NaN where the model answers with it.
    """

    nan: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    minimal: ClassVar[bool] = False

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        x_adv = x.clone()
        for sign in (-1, 1):
            candidates = x + sign * norms.per_example(budget.bound("both ways"), x).to(x)
            logits = passes.outputs(model, candidates)
            x_adv = torch.where(norms.per_example(active_set.misclassified(logits, y), x), candidates, x_adv)
            if self.nan:
                x_adv = torch.where(norms.per_example(logits.isnan().any(1), x), torch.nan, x_adv)
        return x_adv


def verdict(model: nn.Module, search: nn.Module | None, attack: BothWays) -> Verdict:
    """What becomes of one grey pixel of class 0 at eps 0.1."""
    data = ImageSet(
        "pixel", "", torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.int64), torch.arange(1), "", ()
    )
    threat, clean = ThreatModel("linf", 0.1), torch.zeros(1, dtype=torch.int64)
    job = schedule.Job(model, data, clean, [threat], 0, 16, search=search)
    planned = Planned("both ways", "both ways", attack, "linf")
    (row,) = schedule.perform(job, schedule.Chunk(planned, 0, 1)).verdicts
    return row


class TestASearchOnAnotherFormOfTheModel:
    model = Interval(low=0.45, high=0.55, nan_above=0.55)
    """Broken by a darker pixel; its answer to a brighter one is NaN."""

    def test_by_the_model_itself_the_darker_pixel_is_met(self):
        row = verdict(self.model, None, BothWays())
        assert (row.adv_pred, row.lawful, row.broken, row.forwards) == (1, True, True, 2)

    def test_a_proposal_that_the_judge_sees_as_nan_is_searched_again(self):
        brighter = Interval(low=0.0, high=0.55)
        row = verdict(self.model, brighter, BothWays())
        assert (row.adv_pred, row.lawful, row.broken, row.forwards) == (1, True, True, 4)
        assert row.size == pytest.approx(0.1)

    @pytest.mark.parametrize("nan", [False, True], ids=["and finds nothing", "and proposes NaN"])
    def test_a_search_that_meets_nan_is_made_again(self, nan):
        lost = Interval(low=0.0, high=1.0, nan_below=0.45, nan_above=0.55)
        row = verdict(Interval(low=0.45, high=1.0), lost, BothWays(nan))
        assert (row.adv_pred, row.lawful, row.broken, row.forwards) == (1, True, True, 4)

    def test_nan_of_the_search_alone_is_not_held_against_a_robust_model(self):
        robust, lost = Interval(low=0.0, high=1.0), Interval(low=0.0, high=1.0, nan_above=0.55)
        row = verdict(robust, lost, BothWays())
        assert (row.adv_pred, row.size, row.lawful, row.broken, row.forwards) == (0, 0.0, True, False, 4)

    def test_nan_of_the_model_itself_is_flagged(self):
        robust = Interval(low=0.0, high=1.0, nan_above=0.55)
        for search in (None, Interval(low=0.0, high=0.55)):
            row = verdict(robust, search, BothWays())
            assert (row.adv_pred, row.size, row.lawful, row.broken) == (NOT_FINITE, 0.0, False, False)

    def test_what_stands_is_not_searched_again(self):
        row = verdict(self.model, Interval(low=0.45, high=1.0), BothWays())
        assert (row.adv_pred, row.broken, row.forwards) == (1, True, 2)
