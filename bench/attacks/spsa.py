"""SPSA: ascent on a gradient estimated from logits alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Norm
from bench.ops import active_set, losses, norms, passes, rng

_BETA1, _BETA2, _TINY = 0.9, 0.999, 1e-8


@attacks.register("spsa")
@dataclass(frozen=True)
class SPSA:
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018, algorithm 1), gradient-free.

    Each step estimates the gradient of the logit margin from `samples` forward passes an image, in pairs at
    z + delta v and z - delta v with random signs v, and follows it with Adam at rate `lr`, projected onto the ball. A
    further pass a step tells whether the image is fooled, and a fooled image leaves. Because it looks `delta` away, it
    sees past gradients that are masked or shattered.

    The paper takes up to 8192 samples a step; 128 is cleverhans' default. Deviation: points are clipped to [0, 1],
    where the model is defined; a pixel on a face of the box then shows half its slope, with the right sign.
    """

    steps: int = bounded(100, low=1)
    samples: int = bounded(128, low=2)
    delta: float = bounded(0.01, above=0)
    lr: float = bounded(0.01, above=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    def slope(self, model: Any, z: Tensor, y: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
        """The estimated gradient (n, C, H, W) of the margin at z."""
        total, pairs = torch.zeros_like(z), max(self.samples // 2, 1)
        for pair in range(pairs):
            signs = rng.signs(rng.fold(keys, pair), z.shape[1:]).to(z.dtype)
            ahead, behind = (
                losses.margin(passes.outputs(model, (z + side * self.delta * signs).clamp(0, 1), rows), y)
                for side in (1, -1)
            )
            total += norms.per_example(ahead - behind, z) * signs
        return total / (2 * self.delta * pairs)

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        ball, found, rows, z = norms.Ball.around(x, budget), active_set.Found(x), active_set.everything(x), x
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        for step in range(self.steps + 1):
            fooled = active_set.wrong(passes.outputs(model, z, rows), y)
            found.record(rows, z, fooled)
            ball = ball.keep(~fooled)
            rows, z, y, keys, mean, square = active_set.keep(~fooled, rows, z, y, keys, mean, square)
            if step == self.steps or not len(rows):
                break
            gradient = self.slope(model, z, y, rng.fold(keys, step), rows)
            mean = _BETA1 * mean + (1 - _BETA1) * gradient
            square = _BETA2 * square + (1 - _BETA2) * gradient.square()
            root = (square / (1 - _BETA2 ** (step + 1))).sqrt() + _TINY
            z = ball.project(z + self.lr * mean / root / (1 - _BETA1 ** (step + 1)))
        return found.x_adv
