"""SPSA: ascent on a gradient estimated from logits alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, adam, losses, norms, passes, rng
from bench.ops.active_set import Proposals
from bench.ops.adam import Adam


@attacks.register("spsa")
@dataclass(frozen=True)
class SPSA:
    """Simultaneous perturbation stochastic approximation (Uesato et al. 2018, algorithm 1), gradient-free.

    Each step estimates the gradient of the logit margin from pairs of points z + delta v and z - delta v with random
    signs v, and follows it with Adam, projected onto the ball. Because it looks `delta` away, it sees past gradients
    that are masked or shattered.

    Args:
        steps: steps; a further pass a step tells whether the image is fooled, and a fooled image leaves.
        samples: forward passes of an estimate. The paper takes up to 8192; 128 is cleverhans' default.
        delta: how far away points are looked at.
        lr: Adam's rate.

    Deviation: points are clipped to [0, 1], where the model is defined; a pixel on a face of the box then shows half
    its slope, with the right sign.
    """

    steps: int = bounded(100, low=1)
    samples: int = bounded(128, low=2)
    delta: float = bounded(0.01, above=0)
    lr: float = bounded(0.01, above=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False
    gradient_free: ClassVar[bool] = True

    def slope(self, model: Classifier, z: Tensor, y: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
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

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        ball, proposals, rows, z = norms.Ball.around(x, budget), Proposals(x), active_set.everything(x), x
        state, unit = Adam.begin(x), list[Tensor]()
        for step in range(self.steps + 1):
            fooled = active_set.misclassified(passes.outputs(model, z, rows), y)
            proposals.record(rows, z, fooled)
            ball, state = ball.keep(~fooled), state.keep(~fooled)
            rows, z, y, keys, *unit = active_set.keep(~fooled, rows, z, y, keys, *unit)
            if step == self.steps or not len(rows):
                break
            slope = self.slope(model, z, y, rng.fold(keys, step), rows)
            unit = unit or [norms.scale(slope)]
            state.add(slope / norms.per_example(unit[0], z))
            first, second = (norms.per_example(share.to(z), z) for share in state.corrections())
            root = (state.square / second).sqrt() + adam.TINY
            z = ball.project(z + self.lr * state.mean / root / first)
        return proposals.x_adv
