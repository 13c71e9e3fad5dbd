"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import losses, passes, rng
from bench.ops.ascent import Attempt, Schedule, first_success


def random_wrong_class(keys: Tensor, y: Tensor, classes: int) -> Tensor:
    """A uniformly random class (N,) other than y, by key."""
    return (y + 1 + rng.integers(keys, classes - 1)) % classes


@attacks.register("pgd")
@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on cross-entropy (Madry et al. 2018).

    `step_size` None means 2.5 eps / steps. `targeted` descends toward one random wrong class an image, as in MAT table
    3; an image is broken when it is misclassified at all, targeted or not.
    """

    steps: int = bounded(40, low=1)
    step_size: float | None = bounded(None, above=0)
    restarts: int = bounded(1, low=1)
    random_start: bool = True
    targeted: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        attempt = Attempt(losses.ce_in(budget.norm), random_start=self.random_start)
        if self.targeted:
            target = random_wrong_class(rng.fold(keys, -1), y, passes.classes(model, x))
            attempt = Attempt(losses.targeted_ce, (target,), self.random_start)
        schedule = Schedule.standard(budget, self.steps, self.step_size)
        return first_success(model, x, y, budget, keys, schedule, [attempt] * self.restarts)
