"""What an attacker may reach: the images of [0, 1] within eps of one, and the least value of affine functions there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import Norm, UserError

NORMS: tuple[Norm, ...] = ("linf", "l2")
ROUNDS = 8
"""How often the multiplier of an l2 ball is improved; a bound is valid after any of them."""


@dataclass(frozen=True)
class Region:
    """All images of [0, 1] at most eps from `center` (C, H, W, float64) in a norm; they lie from `low` to `high`."""

    center: Tensor
    low: Tensor
    high: Tensor
    norm: Norm
    eps: float

    @classmethod
    def around(cls, image: Tensor, norm: Norm, eps: float) -> Region:
        """The region of an image (C, H, W) in [0, 1]; its sides are rounded outward.

        Raises:
            UserError: there are no bounds for this norm.
        """
        if norm not in NORMS:
            raise UserError(f"there are no bounds for {norm}: certify {' or '.join(NORMS)}, with --norm")
        x = image.double()
        ends = (torch.tensor(sign * torch.inf, dtype=torch.float64) for sign in (-1, 1))
        low, high = (torch.nextafter(x + side, end) for side, end in zip((-eps, eps), ends, strict=True))
        return cls(x, low.clamp(0, 1), high.clamp(0, 1), norm, eps)

    @property
    def largest(self) -> Tensor:
        """The largest absolute value of each pixel."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def least(self, rows: Tensor, rounds: int = ROUNDS) -> Tensor:
        """A lower bound (R,) of <row, x> over the region for each of rows (R, C, H, W), but for rounding.

        `rounds` of an l2 ball make it tighter.
        """
        flat = rows.flatten(1)
        low, high, center = (part.flatten() for part in (self.low, self.high, self.center))
        boxed = torch.minimum(flat * low, flat * high).sum(1)
        if self.norm == "linf" or not self.eps:
            return boxed
        return torch.maximum(boxed, flat @ center + _within_ball(flat, low - center, high - center, self.eps, rounds))


def _within_ball(rows: Tensor, low: Tensor, high: Tensor, eps: float, rounds: int) -> Tensor:
    """Lower bounds (R,) of <row, delta> over low <= delta <= high and ||delta||_2 <= eps, by weak duality.

    For every multiplier m > 0, the least of <row, delta> + m / 2 (||delta||^2 - eps^2) over the box is such a bound,
    and delta = clip(-row / m) attains it. The first m is the one of the ball alone, ||row|| / eps; then the pixels that
    the box holds are taken out of the norm, until the others use up what is left of eps.
    """
    length = rows.square().sum(1).sqrt()
    multiplier = length / eps
    best = -eps * length
    for _ in range(rounds):
        m = multiplier.clamp(min=1e-300)[:, None]
        free = -rows / m
        delta = free.clamp(low, high)
        value = (rows * delta + m / 2 * delta.square()).sum(1) - multiplier * eps**2 / 2
        best = torch.where(length > 0, torch.maximum(best, value), best)
        held = delta != free
        left = eps**2 - torch.where(held, delta.square(), 0).sum(1)
        outer = torch.where(held, 0, rows.square()).sum(1)
        multiplier = (outer / left.clamp(min=1e-300)).sqrt().clamp(max=multiplier)
    return best
