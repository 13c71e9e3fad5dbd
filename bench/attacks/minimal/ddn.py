"""Decoupled direction and norm: an l2 search that walks on a sphere and changes its radius by a factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm, UserError
from bench.ops import active_set, losses, minimum_norm, norms, passes
from bench.ops.active_set import Proposals

_LAST_STEP = 0.01


def log_odds(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds against the true class (N,).

    Its gradient is that of cross-entropy divided by 1 - p_y, so the direction is cross-entropy's own, but it does not
    underflow where the softmax saturates.
    """
    logits = model(x)
    return losses.log_odds(logits, y), logits


@attacks.register("ddn")
@dataclass(frozen=True)
class DDN:
    """Decoupled direction and norm attack (Rony et al. 2019, algorithm 1), untargeted.

    Args:
        steps: steps of the search.
        step_size: length of the gradient that a step adds, annealed by a cosine to 0.01.
        gamma: by how much the radius shrinks if the last image was adversarial, and grows otherwise.
        init: the first radius.
        levels: grey levels that images are rounded to, 256 in the paper; None rounds nothing.
        refine: bisections at the end between the adversarial image and the clean one, which are not in the paper.

    Deviations:
    - the direction is that of the log-odds of the true class, which is cross-entropy's own without the underflow of a
      saturated softmax;
    - a gradient that is exactly zero is replaced by a random direction.

    Where all logits are much smaller than 1, cross-entropy heads for the mean of the other classes, and the adversarial
    image lies farther than the nearest boundary.
    """

    steps: int = bounded(100, low=1)
    step_size: float = bounded(1.0, above=0)
    gamma: float = bounded(0.05, above=0, high=1)
    init: float = bounded(1.0, above=0)
    levels: int | None = bounded(None, low=2)
    refine: int = bounded(0, low=0)

    def __post_init__(self) -> None:
        """Refuse a grid of fewer than two grey levels."""
        if self.levels is not None and self.levels < 2:
            raise UserError(f"ddn: levels must be None or at least 2, not {self.levels}")

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    minimal: ClassVar[bool] = True

    def image(self, x: Tensor, delta: Tensor, radius: Tensor) -> Tensor:
        """The image (N, C, H, W) in [0, 1] at `radius` (N,) from x along delta, on the grid of `levels` if any."""
        scale = radius / norms.size(delta, "l2").clamp_min(norms.TINY)
        z = torch.addcmul(x, delta, norms.per_example(scale, delta)).clamp_(0, 1)
        return z if self.levels is None else (z * (self.levels - 1)).round() / (self.levels - 1)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, rows, z = Proposals(x), active_set.everything(x), x
        farthest = minimum_norm.farthest(x, "l2")
        radius = torch.full_like(farthest, self.init)
        for step in range(self.steps):
            _, logits, gradient = passes.input_gradient(log_odds, model, z, y, rows=rows)
            fooled, delta = active_set.misclassified(logits, y), z - x
            proposals.record_smaller(rows, z, fooled, norms.size(delta, "l2"))
            radius = torch.where(fooled, radius * (1 - self.gamma), radius * (1 + self.gamma)).minimum(farthest)
            length = minimum_norm.annealed(self.step_size, _LAST_STEP, step, self.steps)
            delta.add_(minimum_norm.unit(gradient, keys, step), alpha=length)
            z = self.image(x, delta, radius)
        fooled = active_set.misclassified(passes.outputs(model, z, rows=rows), y)
        proposals.record_smaller(rows, z, fooled, norms.size(z - x, "l2"))
        minimum_norm.toward_clean(model, x, y, proposals, "l2", self.refine)
        return proposals.x_adv
