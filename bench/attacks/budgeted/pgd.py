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

    Args:
        steps: steps of a run.
        step_size: in the units of eps.
        restarts: runs.
        random_start: from a random point of the ball, or else the clean image.
        targeted: toward a random wrong class.
        odi: steps of an output-diversified start (Tashiro et al. 2020, who take 2), made before those of the run.
        last: judge the last iterate alone, as papers whose PGD does not look on the way; by default any counts.
    """

    steps: int = bounded(40, low=1)
    step_size: float | None = bounded(None, above=0)
    restarts: int = bounded(1, low=1)
    random_start: bool = True
    targeted: bool = False
    odi: int = bounded(0, low=0)
    last: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        attempt = Attempt(losses.ce_in(budget.norm), (), self.random_start, self.odi)
        if self.targeted:
            target = random_wrong_class(rng.fold(keys, -1), y, passes.classes(model, x))
            attempt = Attempt(losses.targeted_ce, (target,), self.random_start, self.odi)
        schedule = Schedule.standard(budget, self.steps, self.step_size, stop=not self.last)
        return first_success(model, x, y, budget, keys, schedule, [attempt] * self.restarts)
