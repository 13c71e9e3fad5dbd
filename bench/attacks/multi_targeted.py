"""PGD toward every wrong class in turn, as ADR evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench import losses, passes
from bench.ascent import Attempt, Schedule, first_success
from bench.registry import attacks
from bench.types import Budget, Norm


@attacks.register("multi_targeted")
@dataclass(frozen=True)
class MultiTargeted:
    """Descend the cross-entropy of each wrong class from a fresh random start (ADR supplement, section 3).

    An image is robust only if it keeps its label against every target. ADR also targets the true class, which cannot
    break anything and is left out. `step_size` None means eps / 30 in linf, 2.5 eps / steps otherwise.
    """

    steps: int = 100
    step_size: float | None = None

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.types.Attack`."""
        classes = passes.classes(model, x)
        targets = ((y + step) % classes for step in range(1, classes))
        schedule = Schedule.standard(budget, self.steps, self.step_size)
        attempts = [Attempt(losses.targeted_ce, (target,)) for target in targets]
        return first_success(model, x, y, budget, keys, schedule, attempts)
