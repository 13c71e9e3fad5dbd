"""Toward every wrong class in turn, as ADR evaluates: the multiple-targeted forms of PGD, BIM and MIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import losses, passes
from bench.ops.ascent import Attempt, Schedule, first_success


@dataclass(frozen=True)
class _TowardEach:
    steps: int = bounded(100, low=1)
    step_size: float | None = bounded(None, above=0)
    last: bool = False
    """Judge the last iterate toward each class alone; by default any counts."""

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False
    random_start: ClassVar[bool] = False

    @property
    def momentum(self) -> float:
        """What the accumulated gradient keeps a step; 0 takes each gradient as it is."""
        return 0.0

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        classes = passes.classes(model, x)
        targets = ((y + step) % classes for step in range(1, classes))
        schedule = Schedule.standard(budget, self.steps, self.step_size, self.momentum, stop=not self.last)
        attempts = [Attempt(losses.targeted_ce, (target,), self.random_start) for target in targets]
        return first_success(model, x, y, budget, keys, schedule, attempts)


@attacks.register("multi_targeted")
@dataclass(frozen=True)
class MultiTargeted(_TowardEach):
    """Descend the cross-entropy of each wrong class from a fresh random start (ADR supplement, section 3).

    An image is robust only if it keeps its label against every target. ADR also targets the true class, which cannot
    break anything and is left out. `step_size` None means 2.5 eps / steps.
    """

    random_start: ClassVar[bool] = True


@attacks.register("bim_multi_targeted")
@dataclass(frozen=True)
class BIMMultiTargeted(_TowardEach):
    """`multi_targeted` from the clean image: BIM down the cross-entropy of each wrong class (ADR, table 4)."""


@attacks.register("mim_multi_targeted")
@dataclass(frozen=True)
class MIMMultiTargeted(_TowardEach):
    """MIM down the cross-entropy of each wrong class, from the clean image (ADR supplement, table 4).

    The paper does not print the decay of the accumulated gradient; 1 is that of Dong et al. 2018. Else as
    `bim_multi_targeted`.
    """

    decay: float = bounded(1.0, low=0)

    @property
    def momentum(self) -> float:
        """See `_TowardEach`."""
        return self.decay
