"""Climbing a ReLU net from piece to piece by linear programmes.

While no ReLU changes sign the margin is an affine function of the image, so the best point of a piece inside the ball
is the solution of a linear programme. ReLUs that are at their kinks there separate the piece from its neighbours, which
hold the same point: the way goes on through those where the margin rises, and ends where none does, at a point that no
small change improves. Steps along gradients only come near such points, which lie at the kinks of many ReLUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from bench.ops.pieces.held import HeldNet, flipped

_ADDED, _ROUNDS = 96, 6
"""Constraints that join a programme at once, those that its solution breaks most, and solutions for one piece."""
_SLACK = 1e-5
"""How far past its kink a unit may lie: float32 rounds."""
_RISE = 1e-6
_SHARES = (1.0, 0.7, 0.4, 0.2, 0.1, 0.05)
"""Shares of a step that are tried, since the net itself bends where a constraint was left out."""


@dataclass(frozen=True)
class Solution:
    """Where a programme leads from an image: a step (D,), and the units (m,) at their kinks there.

    `pull` (m,) is how fast the margin would rise with each of them past its kink, were the piece to go on.
    """

    delta: Tensor
    units: Tensor
    pull: Tensor


def best_of_piece(
    net: HeldNet, x: Tensor, pattern: Sequence[Tensor], slope: Tensor, low: Tensor, high: Tensor
) -> Solution:
    """The best point of a piece between bounds low and high (1, C, H, W), from a point x of it.

    Only ReLUs that a solution would turn become constraints, a few at a time, until it turns none.
    """
    sign = torch.cat([part.flatten() for part in pattern]) * 2.0 - 1
    room = sign * net.values(x, pattern)[1][0]
    bounds = torch.stack([(low - x).flatten(), (high - x).flatten()], 1)
    units, rows = torch.empty(0, dtype=torch.int64, device=x.device), x.new_zeros(0, x.numel())
    for _ in range(_ROUNDS):
        solution = _solved(slope, rows, room[units], bounds, units)
        short = -sign * net.values(x + solution.delta.view_as(x).to(x), pattern)[1][0]
        short[units] = -torch.inf
        worst = short.topk(min(_ADDED, len(short)))
        new = worst.indices[worst.values > _SLACK]
        if not len(new):
            break
        rows = torch.cat([rows, net.slopes(x, pattern, new) * sign[new, None]])
        units = torch.cat([units, new])
    return solution


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()


def _solved(slope: Tensor, rows: Tensor, room: Tensor, bounds: Tensor, units: Tensor) -> Solution:
    """Maximise slope @ delta between bounds (D, 2) with rows @ delta >= -room for `units` (m,)."""
    some = len(rows) > 0
    result = linprog(
        -_numbers(slope),
        A_ub=-_numbers(rows) if some else None,
        b_ub=_numbers(room.clamp_min(0)) if some else None,
        bounds=_numbers(bounds),
        method="highs",
    )
    if result.x is None:
        return Solution(torch.zeros_like(slope).double(), units[:0], room[:0])
    pull = torch.from_numpy(-np.asarray(result.ineqlin.marginals)).to(room) if some else room
    return Solution(torch.from_numpy(result.x).to(slope.device), units[pull > 0], pull[pull > 0])


def polished(net: HeldNet, x: Tensor, low: Tensor, high: Tensor, pieces: int) -> Tensor:
    """The best point (1, C, H, W) that is met between bounds on a way from x through at most so many pieces.

    It ends at the first point where the margin is positive.
    """
    pattern, z, best = net.pattern(x), x, (float(net.values(x)[0]), x)
    shares = torch.tensor(_SHARES, dtype=torch.float64, device=x.device).view(-1, 1, 1, 1)
    for _ in range(pieces):
        slope, gains = net.climb(z, pattern)
        solution = best_of_piece(net, z, pattern, slope, low, high)
        ways = (z.double() + shares * solution.delta.view_as(z)).to(z).clamp(low, high)
        margin = net.values(ways)[0]
        place = int(margin.argmax())
        risen = float(margin[place]) > best[0] + _RISE
        z = ways[place : place + 1]
        if risen:
            best = (float(margin[place]), z)
        if best[0] > 0 or (place and not risen):
            break
        if place:
            pattern = net.pattern(z)
            continue
        # Past its kink a unit brings what it gives besides the pull: a rise where the two together are positive.
        crossing = solution.units[solution.pull + gains[solution.units] > _RISE]
        if not len(crossing):
            break
        pattern = flipped(pattern, crossing)
    return best[1]
