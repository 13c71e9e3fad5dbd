"""Auto-PGD (Croce and Hein 2020): projected ascent without a step size to choose.

Linf and l2: algorithm 1 with the parameters of AutoAttack's standard version. L1: l1-APGD of Mind the box (Croce and
Hein 2021), its stages at 3, 2 and 1 eps.

Deviations from the authors' code that change no verdict:
- an image leaves with its first misclassified point, where theirs goes on and returns the last one;
- nothing is differentiated after the last step;
- an image at eps 0 is returned as it is.

Deviations that change the draw but not the strength:
- random starts are each image's own;
- the first rise is counted from the value at the start, as in the paper, where theirs counts it from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.attacks.budgeted.apgd_engine import Criterion, HalvedSteps, Iterates, climb
from bench.attacks.budgeted.apgd_l1 import SparseSteps, inside, onto_ball_in_box, stages
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import losses, norms, passes, rng
from bench.ops.active_set import Proposals
from bench.ops.targets import nearest

_ORDERS = ("logits", "nearest")


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
        self,
        criterion: Criterion,
        targets: Tensor,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        budget: Budget,
        keys: Tensor,
    ) -> Tensor:
        """Climb for each column of targets (N, J) in turn, `restarts` times, with the images that still stand."""
        proposals, ball = Proposals(x), norms.Ball.around(x, budget)
        run = self._through_stages if budget.norm == "l1" else self._halved_steps
        for turn, target in enumerate(targets.repeat_interleave(self.restarts, dim=1).unbind(1)):
            rows = (proposals.size.isinf() & (ball.eps > 0)).nonzero().squeeze(1)
            if not len(rows):
                break
            iterates = Iterates(ball.keep(rows), rows, y[rows], target[rows])
            run(model, criterion, iterates, rng.fold(keys[rows], turn), proposals)
        return proposals.x_adv

    def _halved_steps(
        self, model: Classifier, criterion: Criterion, iterates: Iterates, keys: Tensor, proposals: Proposals
    ) -> None:
        """One run in linf or l2."""
        ball, shape = iterates.ball, iterates.z.shape[1:]
        draw = rng.uniform(keys, shape) * 2 - 1 if ball.norm == "linf" else rng.normal(keys, shape)
        reach = ball.eps / norms.size(draw, ball.norm)
        iterates.begin(ball.project(ball.x + (draw * norms.per_example(reach.float(), draw)).to(ball.x.dtype)))
        rule = HalvedSteps(ball.eps, self.steps, self.rho)
        climb(model, criterion, iterates, rule, self.steps, self.eot_iter, proposals)

    def _through_stages(
        self, model: Classifier, criterion: Criterion, iterates: Iterates, keys: Tensor, proposals: Proposals
    ) -> None:
        """One run in l1: each radius starts at the best point of the one before. Only the last one's are lawful."""
        ball, z = iterates.ball, iterates.z + rng.normal(keys, iterates.z.shape[1:]).to(iterates.z.dtype)
        for radius, steps in stages(self.steps):
            eps = inside(radius * ball.eps)
            iterates.begin(onto_ball_in_box(ball.x, z - ball.x, eps))
            climb(
                model,
                criterion,
                iterates,
                SparseSteps(iterates, eps, steps),
                steps,
                self.eot_iter,
                proposals if radius == 1 else None,
            )
            z = iterates.best


@attacks.register("apgd_ce")
@dataclass(frozen=True)
class APGDCE(_AutoPGD):
    """Auto-PGD on cross-entropy, the first attack of AutoAttack; see `bench.attacks.budgeted.apgd` for the algorithm.

    Args:
        steps: steps of a run.
        restarts: runs, each from a random start; AutoAttack takes 5 in l1.
        rho: share of rising steps below which a step size is halved.
        eot_iter: passes averaged at each point, for models that draw random numbers (AutoAttack's "rand" takes 20). The
            mean logits decide whether the image is misclassified; the authors' code asks the last draw.
    """

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return self.toward(_untargeted(losses.cross_entropy_in(budget.norm)), y[:, None], model, x, y, budget, keys)


@attacks.register("apgd_dlr")
@dataclass(frozen=True)
class APGDDLR(_AutoPGD):
    """Auto-PGD on the difference of logits ratio, which does not change with the scale of the logits.

    For 3 classes or more. Fields as in `apgd_ce`. In no standard version, but in AutoAttack's "plus" and "rand".
    """

    fewest_classes: ClassVar[int] = 3

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return self.toward(_untargeted(losses.dlr), y[:, None], model, x, y, budget, keys)


@attacks.register("apgd_t")
@dataclass(frozen=True)
class APGDT(_AutoPGD):
    """Auto-PGD on the targeted difference of logits ratio, toward each of the `targets` classes that come closest.

    Those are the highest logits on the clean image, which is run once; all other classes if there are fewer. For 4
    classes or more. The other fields as in `apgd_ce`. AutoAttack takes 5 `targets` in l1. With `order` "nearest" the
    closest classes are those of `bench.ops.targets` instead, whose passes count.
    """

    targets: int = bounded(9, low=1)
    order: str = bounded("logits", choices=_ORDERS)

    fewest_classes: ClassVar[int] = 4

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        standing = (budget.bound("apgd_t") > 0).nonzero().squeeze(1)
        on, labels = x[standing], y[standing]
        if self.order == "nearest":
            closest = nearest(model, on, labels, budget.norm, self.targets, rows=standing)
        else:
            closest = losses.strongest_others(passes.outputs(model, on, rows=standing), labels, self.targets)
        targets = y.new_zeros(len(x), closest.shape[1])
        targets[standing] = closest
        return self.toward(losses.targeted_dlr, targets, model, x, y, budget, keys)


def _untargeted(criterion: Callable[[Tensor, Tensor], Tensor]) -> Criterion:
    """A criterion of logits and labels that is handed a target all the same."""

    def untargeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        return criterion(logits, y)

    return untargeted
