"""The engine of Auto-PGD: ascent whose step size is set by how the objective of each image has been rising."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from bench.core.types import Classifier
from bench.ops import active_set, norms, passes
from bench.ops.active_set import Proposals
from bench.ops.draws import mean

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


class StepRule(Protocol):
    """How images move, and what is noted of each to decide it; its tensors lead with n."""

    def move(self, iterates: Iterates, step: int) -> Tensor:
        """The next points (n, C, H, W)."""
        ...

    def review(self, iterates: Iterates, values: Tensor, step: int) -> Tensor | None:
        """Take note of the values (n,) at this step; return which images (n,) go back to their best point."""
        ...


class HalvedSteps:
    """Steps with momentum that start at 2 eps and are halved where progress is slow, in linf and l2 (algorithm 1).

    At a checkpoint a step size is halved under either condition of the paper:
    - at most a share `rho` of the steps since the last checkpoint raised the objective (the authors' code also counts
      equality);
    - neither was the step size halved at the last checkpoint nor has the highest value risen since.
    """

    def __init__(self, eps: Tensor, steps: int, rho: float) -> None:
        self.step_size = 2 * eps
        self.rho, self.reviews, self.last_review = rho, checkpoints(steps), 0
        self.rises = torch.zeros_like(eps)
        self.previous = torch.full_like(eps, torch.inf)
        self.record = torch.full_like(eps, -torch.inf)
        self.halved = torch.ones_like(eps, dtype=torch.bool)

    def move(self, iterates: Iterates, step: int) -> Tensor:
        """See `StepRule`: a projected step, then a quarter of the step before mixed in and a second projection."""
        z, ball = iterates.z, iterates.ball
        ahead = ball.step(z, norms.steepest(iterates.gradient, ball.norm), self.step_size.to(z.dtype))
        if not step:
            return ahead
        # z + m (ahead - z) + (1 - m) (z - before), gathered into the buffer of `ahead`.
        mixed = ahead.mul_(_MOMENTUM).add_(z, alpha=2 - 2 * _MOMENTUM).sub_(iterates.before, alpha=1 - _MOMENTUM)
        return ball.project(mixed)

    def review(self, iterates: Iterates, values: Tensor, step: int) -> Tensor | None:
        """See `StepRule`."""
        self.rises += values > self.previous
        self.previous = values
        if step not in self.reviews:
            return None
        slow = self.rises <= self.rho * (step - self.last_review)
        slow |= ~self.halved & (iterates.best_value <= self.record)
        self.step_size = torch.where(slow, self.step_size / 2, self.step_size)
        self.halved, self.record, self.last_review = slow, iterates.best_value, step
        self.rises = torch.zeros_like(self.rises)
        return slow


class Iterates:
    """Images on their way up; every tensor leads with n, and `rows` are their places in the attack's batch."""

    def __init__(self, ball: norms.Ball, rows: Tensor, y: Tensor, target: Tensor) -> None:
        self.ball, self.rows, self.y, self.target = ball, rows, y, target
        self.begin(ball.x)

    def begin(self, z: Tensor) -> None:
        """Stand at z (n, C, H, W) and forget what was seen before."""
        self.z = self.before = self.best = z
        self.gradient = self.best_gradient = torch.zeros_like(z)
        self.best_value = torch.full((len(z),), -torch.inf, dtype=z.dtype, device=z.device)

    def evaluate(self, model: Classifier, criterion: Criterion, draws: int, gradient: bool) -> tuple[Tensor, Tensor]:
        """Values (n,) and logits (n, K) at z, means of `draws` passes; sets the gradient too, if that is wanted."""

        def objective(model: Classifier, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x)
            return criterion(logits, y, target), logits

        if not gradient:
            logits = mean([passes.outputs(model, self.z, rows=self.rows) for _ in range(draws)])
            return criterion(logits, self.y, self.target), logits
        seen = [
            passes.input_gradient(objective, model, self.z, self.y, self.target, rows=self.rows) for _ in range(draws)
        ]
        values, logits, slope = map(mean, zip(*seen, strict=True))
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

    def advance(self, rule: StepRule, back: Tensor | None, step: int) -> None:
        """Take a step, images `back` (n,) from their best point."""
        if back is not None:
            there = norms.per_example(back, self.z)
            self.z = torch.where(there, self.best, self.z)
            self.gradient = torch.where(there, self.best_gradient, self.gradient)
        self.before, self.z = self.z, rule.move(self, step)


def climb(
    model: Classifier,
    criterion: Criterion,
    iterates: Iterates,
    rule: StepRule,
    steps: int,
    draws: int,
    proposals: Proposals | None,
) -> None:
    """Take `steps` steps; images leave after the first misclassified point, which is recorded in `proposals`.

    One forward and one backward pass a step, and a forward pass at the end. Without `proposals` no image leaves.
    """
    for step in range(steps + 1):
        values, logits = iterates.evaluate(model, criterion, draws, gradient=step < steps)
        fooled = active_set.misclassified(logits, iterates.y)
        if proposals is not None and active_set.maybe(fooled):
            proposals.record(iterates.rows, iterates.z, fooled)
            left = active_set.remaining(proposals.stands(iterates.rows), step)
            if left is not None:
                for state in (iterates, rule):
                    active_set.cut(state, left)
                values = values[left]
                if not len(left):
                    return
        iterates.improve(values)
        if step < steps:
            iterates.advance(rule, rule.review(iterates, values, step), step)
