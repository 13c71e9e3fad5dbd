"""The nearest adversarial image of a one-layer ReLU net, exactly: by linear pieces (l2) or an integer program (linf).

Within a distance r of an image, a hidden unit can change its state only if its hyperplane is nearer than r. Given the
states of all units the net is affine, and the nearest image of a class is a small convex problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp, nnls

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Net:
    """Logits `second @ relu(first @ x + bias)`: first (H, D), bias (H,), second (K, H)."""

    first: Array
    bias: Array
    second: Array


def least_distance(g: Array, h: Array) -> float:
    """min |d| subject to g @ d >= h, inf if none, by non-negative least squares (Lawson and Hanson 1974, LDP)."""
    target = np.zeros(g.shape[1] + 1)
    target[-1] = 1
    u, residual = nnls(np.vstack([g.T, h]), target, maxiter=50 * len(h))
    if residual < 1e-9:
        return float("inf")
    r = np.vstack([g.T, h]) @ u - target
    return float(np.linalg.norm(r[:-1] / r[-1]))


def nearest_l2(net: Net, x: Array, y: int, within: float) -> float:
    """The l2 distance from image x (D,) in [0, 1] to the nearest image not classified as y; `within` bounds it above.

    Depth first over the sets of units whose state changes: each change is a half-space to be reached, the distance to
    all of them bounds whatever lies beyond, and a set farther than the best so far is left with all that contain it.
    """
    before, best = net.first @ x + net.bias, within * (1 + 1e-6)
    far = np.abs(before) / np.linalg.norm(net.first, axis=1)
    unsure = np.flatnonzero(far < best)
    unsure = unsure[np.argsort(far[unsure])]
    box_g, box_h = np.vstack([np.eye(len(x)), -np.eye(len(x))]), np.concatenate([-x, x - 1])
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        flipped = waiting.pop()
        units = unsure[list(flipped)]
        sign = np.where(before > 0, 1.0, -1.0)
        sign[units] *= -1
        if flipped and (far[units].max() >= best or least_distance(*_sides(net, before, sign, units)) >= best):
            continue
        on = sign > 0
        weight, level = net.second[:, on] @ net.first[on], net.second[:, on] @ before[on]
        for rival in range(len(level)):
            slope, gap = weight[rival] - weight[y], level[y] - level[rival]
            if rival != y and gap < best * np.linalg.norm(slope):
                g, h = _sides(net, before, sign, unsure)
                best = min(best, least_distance(np.vstack([slope, g, box_g]), np.concatenate([[gap], h, box_h])))
        waiting += [(*flipped, unit) for unit in range(flipped[-1] + 1 if flipped else 0, len(unsure))]
    return best


def _sides(net: Net, before: Array, sign: Array, units: Array) -> tuple[Array, Array]:
    """Half-spaces g @ d >= h where units (n,) have the sign (H,)."""
    return sign[units, None] * net.first[units], -sign[units] * before[units]


def nearest_linf(net: Net, x: Array, y: int, within: float) -> float:
    """The linf distance from image x (D,) in [0, 1] to the nearest image not classified as y; `within` bounds it above.

    One mixed-integer program a rival class, in the variables d (D,), hidden activations (H,), states (H,) and size.
    """
    before, size, hidden = net.first @ x + net.bias, len(x), len(net.bias)
    reach = np.abs(net.first).sum(1) * within * (1 + 1e-6)
    low, high = before - reach, before + reach
    eye_d, eye_h = np.eye(size), np.eye(hidden)
    none_d, none_h, one = np.zeros((size, hidden)), np.zeros((hidden, 1)), np.ones((size, 1))
    rows = [
        np.hstack([eye_d, none_d, none_d, -one]),  # d <= t
        np.hstack([-eye_d, none_d, none_d, -one]),  # -d <= t
        np.hstack([net.first, -eye_h, np.zeros((hidden, hidden)), none_h]),  # a >= pre
        np.hstack([-net.first, eye_h, -np.diag(low), none_h]),  # a <= pre - low (1 - s)
        np.hstack([np.zeros((hidden, size)), eye_h, -np.diag(high.clip(0)), none_h]),  # a <= high s
    ]
    limits = [np.zeros(2 * size), -before, before - low, np.zeros(hidden)]
    cost = np.zeros(size + 2 * hidden + 1)
    cost[-1] = 1
    integral = np.concatenate([np.zeros(size + hidden), np.ones(hidden), [0]])
    lowest = np.concatenate([np.maximum(-x, -within), np.zeros(hidden), (low > 0).astype(float), [0]])
    highest = np.concatenate([np.minimum(1 - x, within), high.clip(0), (high > 0).astype(float), [within * (1 + 1e-6)]])
    best = within
    for rival in set(range(len(net.second))) - {y}:
        wins = np.concatenate([np.zeros(size), net.second[y] - net.second[rival], np.zeros(hidden + 1)])
        a, upper = np.vstack([*rows, wins]), np.concatenate([*limits, [0]])
        solved = milp(
            cost, integrality=integral, bounds=Bounds(lowest, highest), constraints=LinearConstraint(a, -np.inf, upper)
        )
        if solved.x is not None:
            best = min(best, float(solved.fun))
    return best
