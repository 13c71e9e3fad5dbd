"""Projected gradient descent and its one-step and momentum relatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench import active, losses, noise, norms, passes
from bench.ascent import Schedule, ascend
from bench.registry import attacks
from bench.types import Budget, Norm, Objective


def random_wrong_class(keys: Tensor, y: Tensor, classes: int) -> Tensor:
    """A uniformly random class (N,) other than y, by key."""
    return (y + 1 + noise.integers(keys, classes - 1)) % classes


def restarted(
    model: Any,
    objective: Objective,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    keys: Tensor,
    schedule: Schedule,
    restarts: int,
    random_start: bool,
    references: tuple[Tensor, ...] = (),
) -> Tensor:
    """Ascend from `restarts` starts in turn, each on the images that the ones before left unbroken."""
    found = active.Found(x)
    ball = norms.Ball.around(x, budget)
    rows = active.everything(x)
    for restart in range(restarts):
        on = ball.keep(rows)
        start = on.sample(noise.fold(keys[rows], restart)) if random_start else on.x
        attempt = ascend(
            model,
            objective,
            on,
            y[rows],
            start,
            replace(schedule, step_size=schedule.step_size[rows]),
            tuple(reference[rows] for reference in references),
            rows,
        )
        found.x_adv[rows], found.size[rows] = attempt.x_adv, attempt.size
        rows = found.missing
        if not len(rows):
            break
    return found.x_adv


@attacks.register("pgd")
@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on cross-entropy (Madry et al. 2018).

    `step_size` None means eps / 30 in linf (the 0.01 of MNIST's 0.3; foolbox's default) and 2.5 eps / steps in l2 and l1.
    `targeted` descends toward one random wrong class an image, as in MAT table 3; an image is broken when it is
    misclassified at all, targeted or not.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    targeted: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def schedule(self, budget: Budget) -> Schedule:
        """The steps of this attack under a budget."""
        eps = budget.bound("pgd")
        default = eps / 30 if budget.norm == "linf" else 2.5 * eps / self.steps
        size = default if self.step_size is None else torch.full_like(eps, self.step_size)
        return Schedule(self.steps, size.float())

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.types.Attack`."""
        objective: Objective = losses.ce
        references: tuple[Tensor, ...] = ()
        if self.targeted:
            target = random_wrong_class(noise.fold(keys, -1), y, passes.classes(model, x))
            objective, references = losses.targeted_ce, (target,)
        schedule = self.schedule(budget)
        return restarted(
            model, objective, x, y, budget, keys, schedule, self.restarts, self.random_start, references
        )
