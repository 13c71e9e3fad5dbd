"""Softened ascent toward the nearest classes: the first attack of `strong`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm, Scene
from bench.ops import losses, passes, targets
from bench.ops.ascent import Attempt, Schedule, first_success

_ORDERS = ("nearest", "logits")


@attacks.register("soft")
@dataclass(frozen=True)
class Soft:
    """Climb the logit of each of the nearest wrong classes over the true one, with a softened backward pass.

    Targets in MALT's order (Melamed et al. 2024; see `bench.ops.targets`), steps along half a cosine from eps to .005
    eps, the gradient through ReLU softened at first and exact from 70 % of the steps on (see `bench.ops.softened`).

    Args:
        steps: steps toward a target.
        targets: target classes, at most as many as there are other classes.
        share: width of the softened derivative in standard deviations of a layer's pre-activations; 0 is exact.
        restarts: runs toward each target, each from a random start.
        order: "nearest" by MALT, or by the highest "logits", which costs fewer passes.
        first: the first step size in units of eps.
        final: the last step size in units of the first.
    """

    steps: int = bounded(50, low=1)
    targets: int = bounded(2, low=1)
    share: float = bounded(0.3, low=0, high=10)
    restarts: int = bounded(1, low=1)
    order: str = bounded("nearest", choices=_ORDERS)
    first: float = bounded(1.0, above=0)
    final: float = bounded(0.005, low=0, high=1)
    softens: str = field(default="", repr=False, compare=False, metadata={"bound": True, "recorded": True})
    """The activations that the softened backward pass reaches; "" for none."""

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    def bind(self, scene: Scene) -> Soft:
        """Take note of what a softened backward pass reaches."""
        return replace(self, softens=scene.softens())

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        eps = self.first * budget.bound("soft").float()
        if self.order == "nearest":
            order = targets.nearest(model, x, y, budget.norm, self.targets)
        else:
            order = losses.strongest_others(passes.outputs(model, x), y, self.targets)
        schedule = Schedule(self.steps, eps, final=self.final, share=self.share)
        attempts = [Attempt(losses.rival_margin, (target,)) for target in order.unbind(1)]
        return first_success(model, x, y, budget, keys, schedule, attempts * self.restarts)
