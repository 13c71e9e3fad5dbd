"""The probability margin attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import losses
from bench.ops.ascent import Attempt, Schedule, first_success


@attacks.register("pma")
@dataclass(frozen=True)
class PMA:
    """PGD on the largest wrong probability minus the true one (Xie et al. 2024, arXiv:2411.15210).

    Args:
        steps: steps of a run.
        first: the first step size in units of eps; it falls along half a cosine to `final`.
        final: the last step size in units of the first.
        restarts: runs, each from a random start.
    """

    steps: int = bounded(100, low=1)
    first: float = bounded(1.0, above=0)
    final: float = bounded(0.005, low=0, high=1)
    restarts: int = bounded(1, low=1)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        schedule = Schedule(self.steps, self.first * budget.bound("pma").float(), final=self.final)
        return first_success(model, x, y, budget, keys, schedule, [Attempt(losses.probability_gap)] * self.restarts)
