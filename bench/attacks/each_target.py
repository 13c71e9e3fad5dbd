"""The multiple-targeted forms of BIM and MIM: toward every wrong class in turn, as ADR evaluates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench import losses, passes
from bench.ascent import Attempt, Schedule, first_success
from bench.registry import attacks
from bench.types import Budget, Norm


@attacks.register("bim_multi_targeted")
@dataclass(frozen=True)
class BIMMultiTargeted:
    """BIM down the cross-entropy of each wrong class, from the clean image (ADR supplement, table 4).

    As `multi_targeted` without the random start: an image is robust only if it keeps its label against every target.
    `step_size` None means eps / 30 in linf, 2.5 eps / steps otherwise.
    """

    steps: int = 100
    step_size: float | None = None

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.types.Attack`."""
        return _toward_each(model, x, y, budget, keys, Schedule.standard(budget, self.steps, self.step_size))


@attacks.register("mim_multi_targeted")
@dataclass(frozen=True)
class MIMMultiTargeted:
    """MIM down the cross-entropy of each wrong class, from the clean image (ADR supplement, table 4).

    The paper does not print the decay of the accumulated gradient; 1 is that of Dong et al. 2018. Else as
    `bim_multi_targeted`.
    """

    steps: int = 100
    step_size: float | None = None
    decay: float = 1.0

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.types.Attack`."""
        schedule = Schedule.standard(budget, self.steps, self.step_size, self.decay)
        return _toward_each(model, x, y, budget, keys, schedule)


def _toward_each(model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor, schedule: Schedule) -> Tensor:
    classes = passes.classes(model, x)
    targets = ((y + step) % classes for step in range(1, classes))
    attempts = [Attempt(losses.targeted_ce, (target,), random_start=False) for target in targets]
    return first_success(model, x, y, budget, keys, schedule, attempts)
