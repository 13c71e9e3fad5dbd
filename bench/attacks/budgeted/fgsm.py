"""FGSM and its iterated forms without a random start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import losses
from bench.ops.ascent import Attempt, Schedule, first_success


def _climbed(model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor, schedule: Schedule) -> Tensor:
    """Where cross-entropy leads from the clean image (N, C, H, W)."""
    attempt = Attempt(losses.ce_in(budget.norm), random_start=False)
    return first_success(model, x, y, budget, keys, schedule, [attempt])


def _schedule(budget: Budget, steps: int, step_size: float | None, last: bool, decay: float = 0.0) -> Schedule:
    eps = budget.bound("an iterated FGSM")
    size = eps / 5 if step_size is None else torch.full_like(eps, step_size)
    return Schedule(steps, size.float(), decay, stop=not last)


@attacks.register("fgsm")
@dataclass(frozen=True)
class FGSM:
    """One step of size eps along the steepest ascent of cross-entropy (Goodfellow et al. 2015)."""

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return _climbed(model, x, y, budget, keys, Schedule(1, budget.bound("fgsm").float()))


@attacks.register("bim")
@dataclass(frozen=True)
class BIM:
    """PGD from the clean image (Kurakin et al. 2017). `step_size` None means eps / 5, foolbox's default.

    `last` judges the last iterate alone; by default any counts.
    """

    steps: int = bounded(10, low=1)
    step_size: float | None = bounded(None, above=0)
    last: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return _climbed(model, x, y, budget, keys, _schedule(budget, self.steps, self.step_size, self.last))


@attacks.register("mim")
@dataclass(frozen=True)
class MIM:
    """BIM along accumulated gradients, MI-FGSM (Dong et al. 2018, algorithm 1).

    `step_size` None means eps / 5, the ratio of cleverhans' defaults; the paper takes eps / steps.
    `last` judges the last iterate alone; by default any counts.
    """

    steps: int = bounded(10, low=1)
    step_size: float | None = bounded(None, above=0)
    decay: float = bounded(1.0, low=0)
    last: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return _climbed(model, x, y, budget, keys, _schedule(budget, self.steps, self.step_size, self.last, self.decay))
