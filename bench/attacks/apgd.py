"""Auto-PGD (Croce and Hein 2020): projected ascent without a step size to choose.

In linf and l2 it is algorithm 1 with the parameters of AutoAttack's standard version: momentum 0.75, first step size
2 eps, step sizes reviewed after 22, 41, 57, 70, 80, 87, 93 and 99 of 100 steps, each image by itself, and a random
start on the surface of the ball. In l1 it is l1-APGD of Mind the box (Croce and Hein 2021) with its stages at 3, 2
and 1 eps.

Deviations from the authors' code. Three change no verdict: an image leaves with its first misclassified point, where
theirs goes on and returns the last one; nothing is differentiated after the last step; an image at eps 0 is returned as
it is. Two change the draw but not the strength: random starts are each image's own, and the first rise is counted from
the value at the start, as in the paper, where theirs counts it from zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench.attacks.apgd_engine import Criterion, Halving, Walk, climb
from bench.attacks.apgd_l1 import Sparse, inside, onto_ball_in_box, stages
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Norm
from bench.ops import active_set, losses, norms, passes, rng


@dataclass(frozen=True)
class _AutoPGD:
    steps: int = bounded(100, low=1)
    restarts: int = bounded(1, low=1)
    rho: float = bounded(0.75, low=0, high=1)
    eot_iter: int = bounded(1, low=1)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def toward(
        self, criterion: Criterion, targets: Tensor, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor
    ) -> Tensor:
        """Climb for each column of targets (N, J) in turn, `restarts` times, with the images that still stand."""
        found, ball = active_set.Found(x), norms.Ball.around(x, budget)
        run = self._through_stages if budget.norm == "l1" else self._halving
        for turn, target in enumerate(targets.repeat_interleave(self.restarts, dim=1).unbind(1)):
            rows = (found.size.isinf() & (ball.eps > 0)).nonzero().squeeze(1)
            if not len(rows):
                break
            walk = Walk(ball.keep(rows), rows, y[rows], target[rows])
            run(model, criterion, walk, rng.fold(keys[rows], turn), found)
        return found.x_adv

    def _halving(self, model: Any, criterion: Criterion, walk: Walk, keys: Tensor, found: active_set.Found) -> None:
        """One run in linf or l2."""
        ball, shape = walk.ball, walk.z.shape[1:]
        draw = rng.uniform(keys, shape) * 2 - 1 if ball.norm == "linf" else rng.normal(keys, shape)
        reach = ball.eps / norms.size(draw, ball.norm)
        walk.begin(ball.project(ball.x + (draw * norms.per_example(reach.float(), draw)).to(ball.x.dtype)))
        climb(model, criterion, walk, Halving(ball.eps, self.steps, self.rho), self.steps, self.eot_iter, found)

    def _through_stages(
        self, model: Any, criterion: Criterion, walk: Walk, keys: Tensor, found: active_set.Found
    ) -> None:
        """One run in l1: each radius starts at the best point of the one before. Only the last one's are lawful."""
        ball, z = walk.ball, walk.z + rng.normal(keys, walk.z.shape[1:]).to(walk.z.dtype)
        for radius, steps in stages(self.steps):
            eps = inside(radius * ball.eps)
            walk.begin(onto_ball_in_box(ball.x, z - ball.x, eps))
            climb(
                model, criterion, walk, Sparse(walk, eps, steps), steps, self.eot_iter, found if radius == 1 else None
            )
            z = walk.best


@attacks.register("apgd_ce")
@dataclass(frozen=True)
class APGDCE(_AutoPGD):
    """Auto-PGD on cross-entropy, the first attack of AutoAttack; see `bench.attacks.apgd` for the algorithm.

    `rho` is the share of rising steps below which a step size is halved. `eot_iter` passes are averaged at each point,
    for models that draw random numbers (AutoAttack's "rand" takes 20), and the mean logits decide whether the image is
    misclassified; the authors' code asks the last draw. AutoAttack takes 5 `restarts` in l1.
    """

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return self.toward(_untargeted(losses.cross_entropy), y[:, None], model, x, y, budget, keys)


@attacks.register("apgd_dlr")
@dataclass(frozen=True)
class APGDDLR(_AutoPGD):
    """Auto-PGD on the difference of logits ratio, which does not change with the scale of the logits.

    For 3 classes or more. Fields as in `apgd_ce`. In no standard version, but in AutoAttack's "plus" and "rand".
    """

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return self.toward(_untargeted(losses.dlr), y[:, None], model, x, y, budget, keys)


@attacks.register("apgd_t")
@dataclass(frozen=True)
class APGDT(_AutoPGD):
    """Auto-PGD on the targeted difference of logits ratio, toward each of the `targets` classes that come closest.

    Those are the highest logits on the clean image, which is run once; all other classes if there are fewer. For 4
    classes or more. The other fields as in `apgd_ce`. AutoAttack takes 5 `targets` in l1.
    """

    targets: int = bounded(9, low=1)

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        standing = (budget.bound("apgd_t") > 0).nonzero().squeeze(1)
        logits = passes.outputs(model, x[standing], rows=standing)
        targets = y.new_zeros(len(x), min(self.targets, logits.shape[1] - 1))
        targets[standing] = losses.strongest_others(logits, y[standing], self.targets)
        return self.toward(losses.targeted_dlr, targets, model, x, y, budget, keys)


def _untargeted(criterion: Any) -> Criterion:
    """A criterion of logits and labels that is handed a target all the same."""

    def untargeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        values: Tensor = criterion(logits, y)
        return values

    return untargeted
