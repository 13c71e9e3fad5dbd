"""Projected ascent on an objective: the engine of FGSM, BIM, MIM, PGD and every adaptive attack."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.core.types import Budget, Classifier, Objective
from bench.ops import active_set, losses, norms, passes, rng
from bench.ops.active_set import Proposals
from bench.ops.softened import annealed, softened

_DIRECTION = -2
"""What a key is folded with for the direction of a diversified start."""


@dataclass(frozen=True)
class Schedule:
    """How an ascent moves: `steps` steps of `step_size` (N,) in the budget's norm.

    `momentum` accumulates l1-normalised gradients (Dong et al. 2018, eq. 6); 0 means plain steps. With `stop`, an image
    leaves at its first misclassified iterate; without, every step is taken and the last iterate returned (training).
    `final` below 1 lets the step size fall along half a cosine to that share of it; `share` softens the backward pass
    (see `bench.ops.softened`), linearly less until it is exact from 70 % of the steps on.
    """

    steps: int
    step_size: Tensor
    momentum: float = 0.0
    stop: bool = True
    final: float = 1.0
    share: float = 0.0

    @classmethod
    def standard(
        cls, budget: Budget, steps: int, step_size: float | None = None, momentum: float = 0.0, stop: bool = True
    ) -> Schedule:
        """Equal steps of `step_size`; None means 2.5 eps / steps, by which any point of the ball can be reached.

        Forty steps of eps / 30, foolbox's and adv_lib's default, end 4/3 eps from where they began, while the ball is
        2 eps wide: they leave up to seven points more of robust models.
        """
        eps = budget.bound("a schedule of steps")
        size = 2.5 * eps / max(steps, 1) if step_size is None else torch.full_like(eps, step_size)
        return cls(steps, size.float(), momentum, stop)

    def factor(self, step: int) -> float:
        """What the step size is multiplied by at a step."""
        way = step / max(self.steps - 1, 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * way)) / 2

    def softness(self, step: int) -> float:
        """The share by which the backward pass is softened at a step."""
        return annealed(self.share, step, self.steps)

    def keep(self, which: Tensor) -> Schedule:
        """The schedule of some of the images."""
        return replace(self, step_size=self.step_size[which])


@dataclass(frozen=True)
class Attempt:
    """One ascent among several: an objective with its references, each (N, ...), from a random or the clean start.

    `diversify` steps of size eps along a random direction of the logits lead away from there first (output-diversified
    initialisation, Tashiro et al. 2020, section 3).
    """

    objective: Objective
    references: tuple[Tensor, ...] = ()
    random_start: bool = True
    diversify: int = 0


def ascend(
    model: Classifier,
    objective: Objective,
    ball: norms.Ball,
    y: Tensor,
    z: Tensor,
    schedule: Schedule,
    references: Sequence[Tensor] = (),
    rows: Tensor | None = None,
    proposals: Proposals | None = None,
) -> Proposals:
    """Climb `objective` from `z` (N, C, H, W) inside the ball, one forward and one backward pass a step.

    Args:
        model: what the objective takes.
        objective: see `bench.core.types.Objective`.
        ball: where the iterates stay.
        y: labels (N,).
        z: starting points (N, C, H, W).
        schedule: steps and their sizes.
        references: the objective's, each (N, ...).
        rows: places (N,) of these images in the batch of `proposals`; None means that they are the batch.
        proposals: where the first misclassified iterate of each image is recorded, whenever the image then leaves.

    Returns:
        `proposals`, or new ones. Without `schedule.stop` they hold the last iterates, misclassified or not.
    """
    rows = active_set.everything(z) if rows is None else rows
    proposals = Proposals(ball.x) if proposals is None else proposals
    step_size = schedule.step_size
    # Without momentum a mere column, which costs nothing to cut.
    velocity = torch.zeros_like(z) if schedule.momentum else torch.zeros_like(step_size)
    for step in range(schedule.steps):
        with softened(schedule.softness(step)):
            _, logits, gradient = passes.input_gradient(objective, model, z, y, *references, rows=rows)
        fooled = active_set.misclassified(logits, y)
        if schedule.stop and active_set.maybe(fooled):
            proposals.record(rows, z, fooled)
            left = active_set.remaining(proposals.stands(rows), step)
            if left is not None:
                rows, z, y, gradient, velocity, step_size, *references = (
                    tensor[left] for tensor in (rows, z, y, gradient, velocity, step_size, *references)
                )
                ball = ball.keep(left)
                if not len(rows):
                    return proposals
        if schedule.momentum:
            velocity = schedule.momentum * velocity + norms.unit_mean(gradient)
            gradient = velocity
        length = step_size if schedule.final == 1 else step_size * schedule.factor(step)
        z = ball.step(z, norms.steepest(gradient, ball.norm), length)
        del gradient  # the next pass needs the memory
    if not schedule.stop:
        proposals.x_adv[rows] = z
        return proposals
    logits = passes.outputs(model, z, rows=rows)
    proposals.record(rows, z, active_set.misclassified(logits, y))
    return proposals


def first_success(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    keys: Tensor,
    schedule: Schedule,
    attempts: Iterable[Attempt],
) -> Tensor:
    """Make attempts in turn, each on the images that the ones before left unbroken; return x_adv (N, C, H, W).

    Restarts are the same attempt again: each draws its own start, by key and by its place in the list. Without
    `schedule.stop` the last iterate of each attempt is all that counts.
    """
    proposals = Proposals(x)
    ball = norms.Ball.around(x, budget)
    for turn, attempt in enumerate(attempts):
        rows = proposals.missing
        if not len(rows):
            break
        on = ball.keep(rows)
        references = tuple(reference[rows] for reference in attempt.references)
        own = rng.fold(keys[rows], turn)
        start = on.sample(own) if attempt.random_start else on.x
        if attempt.diversify:
            start = _diversified(model, on, y[rows], start, own, attempt.diversify, rows, x)
        place = proposals if schedule.stop else Proposals(x)
        ascend(model, attempt.objective, on, y[rows], start, schedule.keep(rows), references, rows, place)
        if not schedule.stop:
            z = place.x_adv[rows]
            proposals.record(rows, z, active_set.misclassified(passes.outputs(model, z, rows=rows), y[rows]))
    return proposals.x_adv


def _diversified(
    model: Classifier, ball: norms.Ball, y: Tensor, z: Tensor, keys: Tensor, steps: int, rows: Tensor, x: Tensor
) -> Tensor:
    """Starting points (n, C, H, W) after some steps of size eps that climb a random direction of the logits."""
    weights = rng.uniform(rng.fold(keys, _DIRECTION), (passes.classes(model, x),)) * 2 - 1
    schedule = Schedule(steps, ball.eps.float(), stop=False)
    climbed = ascend(model, losses.output_direction, ball, y, z, schedule, (weights.to(z),), rows, Proposals(x))
    return climbed.x_adv[rows]
