"""Random perturbations: the attack that any other must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, passes, rng
from bench.ops.active_set import Proposals
from bench.ops.norms import Ball, per_example


@attacks.register("noise")
@dataclass(frozen=True)
class Noise:
    """The first misclassified of `draws` random points: corners of the linf ball, or uniform in the ball.

    `corners` flips each pixel to x - eps or x + eps at random, the strongest noise that linf allows; it has no meaning
    in l2 and l1, where points are uniform in the ball.
    """

    draws: int = bounded(10, low=1)
    corners: bool = True

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False
    gradient_free: ClassVar[bool] = True

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals = Proposals(x)
        ball = Ball.around(x, budget)
        for draw in range(self.draws):
            rows = proposals.missing
            if not len(rows):
                break
            z = self._draw(ball.keep(rows), rng.fold(keys[rows], draw))
            proposals.record(rows, z, active_set.misclassified(passes.outputs(model, z, rows), y[rows]))
        return proposals.x_adv

    def _draw(self, ball: Ball, keys: Tensor) -> Tensor:
        if ball.norm != "linf" or not self.corners:
            return ball.sample(keys)
        signs = rng.signs(keys, ball.x.shape[1:])
        return ball.project(ball.x + signs * per_example(ball.eps.float(), ball.x))
