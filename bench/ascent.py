"""Projected ascent on an objective: the engine of FGSM, BIM, MIM, PGD and every adaptive attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench import active, norms, passes
from bench.types import Objective


@dataclass(frozen=True)
class Schedule:
    """How an ascent moves: `steps` steps of `step_size` (N,) in the budget's norm.

    `momentum` accumulates l1-normalised gradients (Dong et al. 2018, eq. 6); 0 means plain steps. With `stop`, an image
    leaves at its first misclassified iterate; without, every step is taken and the last iterate returned (training).
    """

    steps: int
    step_size: Tensor
    momentum: float = 0.0
    stop: bool = True


def ascend(
    model: Any,
    objective: Objective,
    ball: norms.Ball,
    y: Tensor,
    start: Tensor,
    schedule: Schedule,
    references: Sequence[Tensor] = (),
    rows: Tensor | None = None,
) -> active.Found:
    """Climb `objective` from `start` (N, C, H, W) inside the ball, one forward and one backward pass a step.

    `references` are the objective's, each (N, ...); `rows` (N,) the places of these images in the batch that the attack
    was given, for the count of passes. Finds the first misclassified iterate of each image.
    """
    found = active.Found(ball.x)
    place = active.everything(start)
    rows = place if rows is None else rows
    z, velocity, step_size = start, torch.zeros_like(start), schedule.step_size
    for _ in range(schedule.steps):
        _, logits, gradient = passes.ascent_direction(objective, model, z, y, *references, rows=rows)
        fooled = active.wrong(logits, y)
        if schedule.stop and bool(fooled.any()):
            found.record(place, z, fooled)
            on = ~fooled
            place, rows, z, y, gradient, velocity, step_size, *references = active.keep(
                on, place, rows, z, y, gradient, velocity, step_size, *references
            )
            ball = ball.keep(on)
            if not len(place):
                return found
        if schedule.momentum:
            velocity = schedule.momentum * velocity + norms.unit_mean(gradient)
            gradient = velocity
        z = ball.project(z + norms.per_example(step_size, z) * norms.steepest(gradient, ball.norm))
    if not schedule.stop:
        found.x_adv[place] = z
        return found
    logits = passes.outputs(model, z, rows=rows)
    found.record(place, z, active.wrong(logits, y))
    return found
