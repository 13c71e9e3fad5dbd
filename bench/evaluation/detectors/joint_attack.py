"""The adaptive attack on a detector: fool the classifier and pass the detector at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import Budget, Objective, UserError
from bench.evaluation.detectors.detector import Fitted
from bench.ops import active_set, losses, norms, passes, rng
from bench.ops.ascent import Schedule


def in_turn(fitted: Fitted, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The margin where the classifier is right, minus the detector's score where it is already wrong.

    One goal at a time has no scales to balance: steps go by the gradient's direction alone.
    """
    answers = fitted.answers(x)
    margin = losses.margin(answers[:, :-1], y)
    return torch.where(margin <= 0, margin, -answers[:, -1]), answers


def toward(fitted: Fitted, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`in_turn` with a goal class (N,): its margin until it is predicted, then minus the score."""
    answers = fitted.answers(x)
    short = losses.margin(answers[:, :-1], target)
    return torch.where(short >= 0, -short, -answers[:, -1]), answers


@dataclass(frozen=True)
class WeightedSum:
    """CE - weight * score: cross-entropy up and suspicion down."""

    weight: float

    def __call__(self, fitted: Fitted, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N,), and logits with the score (N, K + 1)."""
        answers = fitted.answers(x)
        return losses.cross_entropy(answers[:, :-1], y) - self.weight * answers[:, -1], answers


@dataclass(frozen=True)
class JointAttack:
    """PGD on both at once, by key, from a random start; each restart makes an ascent an objective.

    First `in_turn`, then `toward` each target class, then CE - weight * score for each weight. Of all iterates that the
    classifier gets wrong it keeps the one that the detector finds least suspicious, and an image leaves when that
    passes the threshold.

    Args:
        steps: of each ascent.
        step_size: None for 2.5 eps / steps.
        restarts: how often all the objectives are climbed.
        targets: how many classes, those that come next to the true one for the clean image.
        weights: of the detector's score.
    """

    steps: int = 100
    step_size: float | None = None
    restarts: int = 1
    targets: int = 9
    weights: tuple[float, ...] = (0.1, 1.0)

    def objectives(self, targets: Tensor) -> Iterator[tuple[Objective, tuple[Tensor, ...]]]:
        """What is climbed in turn, and its references; targets (N, J)."""
        for _ in range(self.restarts):
            yield in_turn, ()
            yield from ((toward, (target,)) for target in targets.unbind(1))
            yield from ((WeightedSum(weight), ()) for weight in self.weights)

    def __call__(self, fitted: Fitted, threshold: float, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W) of images x that are right; a failed one is wrong but flagged, or the clean image.

        Raises:
            UserError: the budget has no eps.
        """
        if budget.eps is None:
            raise UserError("the joint attack on a detector needs a budget: give --eps")
        best, ball = active_set.Proposals(x), norms.Ball.around(x, budget)
        schedule = Schedule.standard(budget, self.steps, self.step_size)
        targets = losses.strongest_others(passes.outputs(fitted.answers, x)[:, :-1], y, self.targets)
        for turn, (objective, references) in enumerate(self.objectives(targets)):
            rows = (~(best.size <= threshold)).nonzero().squeeze(1)
            if not len(rows):
                break
            start = ball.keep(rows).sample(rng.fold(keys[rows], turn))
            _climb(fitted, objective, references, threshold, ball, y, start, schedule, rows, best)
        return best.x_adv


def _climb(
    fitted: Fitted,
    objective: Objective,
    references: tuple[Tensor, ...],
    threshold: float,
    ball: norms.Ball,
    y: Tensor,
    z: Tensor,
    schedule: Schedule,
    rows: Tensor,
    best: active_set.Proposals,
) -> None:
    """Climb from z (n, C, H, W), the images `rows` (n,) of the batch, and record what is wrong by its score."""
    for _ in range(schedule.steps):
        theirs = [reference[rows] for reference in references]
        _, answers, gradient = passes.input_gradient(objective, fitted, z, y[rows], *theirs, rows=rows)
        _record(best, rows, z, answers, y)
        left = (~(best.size[rows] <= threshold)).nonzero().squeeze(1)
        rows, z, gradient = rows[left], z[left], gradient[left]
        if not len(rows):
            return
        z = ball.keep(rows).step(z, norms.steepest(gradient, ball.norm), schedule.step_size[rows])
    _record(best, rows, z, passes.outputs(fitted.answers, z, rows=rows), y)


def _record(best: active_set.Proposals, rows: Tensor, z: Tensor, answers: Tensor, y: Tensor) -> None:
    best.record_smaller(rows, z, active_set.misclassified(answers[:, :-1], y[rows]), answers[:, -1])
