"""Auto-PGD's step rule in l1: sparse steps, and the exact projection onto the l1 ball cut with the box."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.attacks.budgeted.apgd_engine import Iterates
from bench.ops import norms

_SHRINK, _SETTLED, _LEAST_STEP = 1.5, 0.95, 0.1


def stages(steps: int) -> list[tuple[float, int]]:
    """The radii that a run passes through, in units of eps, and the steps that it takes in each: 30, 30 and 40 %."""
    early = min(math.ceil(0.3 * steps), steps // 2)
    return [(3.0, early), (2.0, early), (1.0, steps - 2 * early)]


def inside(eps: Tensor) -> Tensor:
    """Radii (N,) one part in 2^20 smaller, so that storing the image in float32 cannot take it out of the ball."""
    return eps * (1 - 2.0**-20)


def onto_ball_in_box(x: Tensor, delta: Tensor, eps: Tensor) -> Tensor:
    """The point (N, C, H, W) nearest in l2 to x + delta within eps (N,) of x in l1 and in [0, 1].

    After Mind the box (Croce and Hein 2021): every magnitude is lowered by the same threshold and cut at the box.
    """
    flat, start = delta.flatten(1).double(), x.flatten(1).double()
    magnitude = flat.abs()
    room = torch.where(flat > 0, 1 - start, start)
    # Lowering gains nothing on a pixel until the threshold passes what the box cuts off: the total size is piecewise
    # linear in the threshold, with two bends a pixel, which are sorted.
    bends, order = torch.cat([(magnitude - room).clamp_min(0), magnitude], 1).sort(dim=1, stable=True)
    slopes = torch.where(order < flat.shape[1], 1.0, -1.0).double().cumsum(1)
    whole = magnitude.minimum(room).sum(1)
    # The size at each bend; before the first, it is that of the clipped point.
    sizes = whole[:, None] - F.pad((slopes[:, :-1] * bends.diff(dim=1)).cumsum(1), (1, 0))
    place = ((sizes >= eps[:, None]).sum(1, keepdim=True) - 1).clamp_min(0)
    above = (sizes.gather(1, place) - eps[:, None]) / slopes.gather(1, place).clamp_min(1)
    threshold = torch.where(whole > eps, (bends.gather(1, place) + above).squeeze(1), 0)
    lowered = (magnitude - threshold[:, None]).clamp_min(0).minimum(room)
    return (start + flat.sign() * lowered).to(x.dtype).clamp(0, 1).view_as(x)


class SparseSteps:
    """Steps along the signs of the largest gradient entries (Mind the box, l1-APGD), `eps` (N,) long at most.

    The number of entries is that of the pixels changed at the best point, divided by 1.5. At a review, images whose
    best point has grown sparser by 5 % go back to it and take full steps again; the others' steps shrink by 1.5, down
    to a tenth.
    """

    def __init__(self, iterates: Iterates, eps: Tensor, steps: int) -> None:
        self.every = max(int(0.04 * steps), 1)
        self.eps, self.step_size = eps, eps
        self.used = _changed(iterates.z, iterates.ball.x)
        self.chosen = self.used / _SHRINK

    def move(self, iterates: Iterates, step: int) -> Tensor:
        """See `StepRule`."""
        z, x, slope = iterates.z, iterates.ball.x, iterates.gradient.flatten(1)
        size = slope.abs()
        last = self.chosen.ceil().clamp(1, slope.shape[1]).long() - 1
        least = size.sort(dim=1, descending=True).values.gather(1, last[:, None])
        signs = torch.where(size >= least, slope.sign(), 0)
        share = self.step_size / signs.abs().sum(1).clamp_min(1)
        stride = signs.view_as(z) * norms.per_example(share.to(z.dtype), z)
        return onto_ball_in_box(x, z + stride - x, self.eps)

    def review(self, iterates: Iterates, values: Tensor, step: int) -> Tensor | None:
        """See `StepRule`."""
        if step == 0 or step % self.every:
            return None
        used = _changed(iterates.best, iterates.ball.x)
        sparser = used < _SETTLED * self.used
        shrunk = (self.step_size / _SHRINK).maximum(self.eps * _LEAST_STEP)
        self.step_size = torch.where(sparser, self.eps, shrunk)
        self.chosen, self.used = used / _SHRINK, used
        return sparser


def _changed(z: Tensor, x: Tensor) -> Tensor:
    """How many pixels (N,) of z differ from x (N, C, H, W)."""
    return (z != x).flatten(1).sum(1).double()
