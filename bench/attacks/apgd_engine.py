"""The engine of Auto-PGD: ascent whose step size is set by how the objective of each image has been rising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.ops import active_set, norms, passes

_MOMENTUM = 0.75

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (N, K), y (N,), target (N,)) -> values (N,) to climb."""


def checkpoints(steps: int) -> list[int]:
    """The steps after which step sizes are reviewed: windows of 22 % of all steps, shrinking by 3 % down to 6 %."""
    window, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    places, at = [], window
    while at <= steps:
        places.append(at)
        window = max(window - shrink, least)
        at += window
    return places


def cut(state: object, left: Tensor) -> None:
    """Cut every tensor and ball that an object holds to the images at places `left` (m,)."""
    for name, value in vars(state).items():
        if isinstance(value, Tensor):
            setattr(state, name, value[left])
        elif isinstance(value, norms.Ball):
            setattr(state, name, value.keep(left))


class Gait(Protocol):
    """How images move, and what is noted of each to decide it; its tensors lead with n."""

    def move(self, walk: Walk, step: int) -> Tensor:
        """The next points (n, C, H, W)."""
        ...

    def review(self, walk: Walk, values: Tensor, step: int) -> Tensor | None:
        """Take note of the values (n,) at this step; return which images (n,) go back to their best point."""
        ...


class Halving:
    """Steps with momentum that start at 2 eps and are halved where progress is slow, in linf and l2 (algorithm 1).

    At a checkpoint a step size is halved if at most a share `rho` of the steps since the last one raised the objective
    (condition 1; the authors' code also counts equality), or if neither the step size was halved at the last checkpoint
    nor the highest value has risen since (condition 2).
    """

    def __init__(self, eps: Tensor, steps: int, rho: float) -> None:
        self.step_size = 2 * eps
        self.rho, self.reviews, self.last_review = rho, checkpoints(steps), 0
        self.rises = torch.zeros_like(eps)
        self.previous = torch.full_like(eps, torch.inf)
        self.record = torch.full_like(eps, -torch.inf)
        self.halved = torch.ones_like(eps, dtype=torch.bool)

    def move(self, walk: Walk, step: int) -> Tensor:
        """See `Gait`: a projected step, then a quarter of the step before mixed in and a second projection."""
        z, ball = walk.z, walk.ball
        ahead = ball.step(z, norms.steepest(walk.gradient, ball.norm), self.step_size.to(z.dtype))
        if not step:
            return ahead
        # z + m (ahead - z) + (1 - m) (z - before), gathered into the buffer of `ahead`.
        mixed = ahead.mul_(_MOMENTUM).add_(z, alpha=2 - 2 * _MOMENTUM).sub_(walk.before, alpha=1 - _MOMENTUM)
        return ball.project(mixed)

    def review(self, walk: Walk, values: Tensor, step: int) -> Tensor | None:
        """See `Gait`."""
        self.rises += values > self.previous
        self.previous = values
        if step not in self.reviews:
            return None
        slow = self.rises <= self.rho * (step - self.last_review)
        slow |= ~self.halved & (walk.best_value <= self.record)
        self.step_size = torch.where(slow, self.step_size / 2, self.step_size)
        self.halved, self.record, self.last_review = slow, walk.best_value, step
        self.rises = torch.zeros_like(self.rises)
        return slow


def _mean(draws: Sequence[Tensor]) -> Tensor:
    return torch.stack([*draws]).mean(0) if len(draws) > 1 else draws[0]


class Walk:
    """Images on their way up; every tensor leads with n, and `rows` are their places in the attack's batch."""

    def __init__(self, ball: norms.Ball, rows: Tensor, y: Tensor, target: Tensor) -> None:
        self.ball, self.rows, self.y, self.target = ball, rows, y, target
        self.begin(ball.x)

    def begin(self, z: Tensor) -> None:
        """Stand at z (n, C, H, W) and forget what was seen before."""
        self.z = self.before = self.best = z
        self.gradient = self.best_gradient = torch.zeros_like(z)
        self.best_value = torch.full((len(z),), -torch.inf, dtype=z.dtype, device=z.device)

    def look(self, model: Any, criterion: Criterion, draws: int, gradient: bool) -> tuple[Tensor, Tensor]:
        """Values (n,) and logits (n, K) at z, means of `draws` passes; sets the gradient too, if that is wanted."""

        def objective(model: Any, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x)
            return criterion(logits, y, target), logits

        if not gradient:
            logits = _mean([passes.outputs(model, self.z, rows=self.rows) for _ in range(draws)])
            return criterion(logits, self.y, self.target), logits
        seen = [
            passes.ascent_direction(objective, model, self.z, self.y, self.target, rows=self.rows) for _ in range(draws)
        ]
        values, logits, slope = map(_mean, zip(*seen, strict=True))
        # `passes` has flagged rows that are not finite; here they are only kept out of the image.
        self.gradient = slope.nan_to_num(0, 0, 0)
        return values, logits

    def improve(self, values: Tensor) -> None:
        """Remember the points whose value (n,) is the highest so far."""
        higher = values > self.best_value
        here = norms.per_example(higher, self.z)
        self.best_value = torch.where(higher, values, self.best_value)
        self.best = torch.where(here, self.z, self.best)
        self.best_gradient = torch.where(here, self.gradient, self.best_gradient)

    def go(self, gait: Gait, back: Tensor | None, step: int) -> None:
        """Take a step, images `back` (n,) from their best point."""
        if back is not None:
            there = norms.per_example(back, self.z)
            self.z = torch.where(there, self.best, self.z)
            self.gradient = torch.where(there, self.best_gradient, self.gradient)
        self.before, self.z = self.z, gait.move(self, step)


def climb(
    model: Any, criterion: Criterion, walk: Walk, gait: Gait, steps: int, draws: int, found: active_set.Found | None
) -> None:
    """Take `steps` steps; images leave after the first misclassified point, which is recorded, unless `found` is None.

    One forward and one backward pass a step, and a forward pass at the end.
    """
    for step in range(steps + 1):
        values, logits = walk.look(model, criterion, draws, gradient=step < steps)
        fooled = active_set.wrong(logits, walk.y)
        if found is not None and active_set.maybe(fooled):
            found.record(walk.rows, walk.z, fooled)
            left = active_set.remaining(found.stands(walk.rows), step)
            if left is not None:
                for state in (walk, gait):
                    cut(state, left)
                values = values[left]
                if not len(left):
                    return
        walk.improve(values)
        if step < steps:
            walk.go(gait, gait.review(walk, values, step), step)
