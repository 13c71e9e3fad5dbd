"""Search with populations: many softened ascents whose best points are crossed and climb again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from bench.attacks.budgeted.soft import Soft
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm, Scene
from bench.ops import norms, rng, targets
from bench.ops.active_set import Proposals
from bench.ops.ascent import Schedule
from bench.ops.norms import Ball
from bench.ops.population import crossover
from bench.ops.population.crowd import Crowd, climb, repeated
from bench.ops.population.last_climb import climb_pieces

_TARGETS = 2
"""Classes that islands take as targets in turn."""
_SHARPNESS = 4.0
"""How fast a mask goes from one parent to the other."""
_PATCH = (0.15, 0.5)
"""The smallest and the largest side of a patch in units of the image's."""


@attacks.register("islands")
@dataclass(frozen=True)
class Islands:
    """Populations of points for each image, one after the other until a point is misclassified.

    An island is a population that climbs toward a class, the nearest two in turn (MALT, see `bench.ops.targets`). It
    begins with random starts, each climbing as `soft` does. A generation makes children: two of the best points,
    blended by a smooth random mask; of half of the children a rectangle is set anew; each then climbs a little. The
    best of points and children go on. The image is done with its first misclassified point. In linf, if the net is
    affine but for its ReLUs, the best points that nearly are end with linear programmes (see
    `bench.ops.pieces.programme`); in l2 they would be programmes with a quadratic constraint, and are left out.

    Args:
        islands: populations at most.
        first: number of the first island, which says whose turn its target is.
        starts: random starts of an island, and points that go on from generation to generation.
        steps: steps of each start.
        generations: generations of an island.
        children: children of a generation.
        polish: steps that each child climbs.
        patched: share of the children of which a rectangle is set anew.
        pace: first step size of a child in units of eps; that of a start is eps.
        share: width of the softened derivative in standard deviations of a layer's pre-activations; 0 is exact.
        pieces: linear pieces of a ReLU net that the best points climb through, solved exactly, after the starts and
            after the last generation; 0 is none.
    """

    islands: int = bounded(5, low=1)
    first: int = bounded(0, low=0)
    starts: int = bounded(24, low=2)
    steps: int = bounded(60, low=1)
    generations: int = bounded(40, low=0)
    children: int = bounded(24, low=1)
    polish: int = bounded(20, low=1)
    patched: float = bounded(0.5, low=0, high=1)
    pace: float = bounded(1.0, above=0)
    share: float = bounded(0.3, low=0, high=10)
    pieces: int = bounded(8, low=0)
    softens: str = field(default="", repr=False, compare=False, metadata={"bound": True, "recorded": True})

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    @property
    def points(self) -> int:
        """Points of an image that go through the model at once."""
        return max(self.starts, self.children)

    def bind(self, scene: Scene) -> Islands:
        """Take note of what a softened backward pass reaches."""
        return replace(self, softens=scene.softens())

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, ball = Proposals(x), Ball.around(x, budget)
        rows = (ball.eps > 0).nonzero().squeeze(1)
        nearest = targets.nearest(model, x[rows], y[rows], budget.norm, _TARGETS, rows=rows)
        for island in range(self.islands):
            left = proposals.stands(rows).nonzero().squeeze(1)
            rows, nearest = rows[left], nearest[left]
            if not len(rows):
                break
            target = nearest[:, (self.first + island) % nearest.shape[1]]
            crowd = Crowd.empty(rows, ball.keep(rows), y[rows], target, rng.fold(keys[rows], self.first + island))
            self._island(model, crowd, proposals)
        return proposals.x_adv

    def _island(self, model: Classifier, crowd: Crowd, proposals: Proposals) -> None:
        keys = crossover.child_keys(crowd.keys, 0, self.starts)
        z = torch.stack([crowd.ball.sample(part) for part in keys.unbind(1)], 1)
        self._climb(model, crowd, z, self.steps, 1.0, proposals)
        # What the starts nearly find a few programmes find for less than a generation costs.
        climb_pieces(model, crowd, self.pieces, proposals)
        for generation in range(1, self.generations + 1):
            if not len(crowd):
                return
            keys = crossover.child_keys(crowd.keys, generation, self.children)
            self._climb(model, crowd, self._children(crowd, keys), self.polish, self.pace, proposals)
            if generation == self.generations:
                climb_pieces(model, crowd, self.pieces, proposals)

    def _climb(self, model: Classifier, crowd: Crowd, z: Tensor, steps: int, pace: float, proposals: Proposals) -> None:
        schedule = Schedule(steps, pace * crowd.ball.eps.float(), final=Soft.final / pace, share=self.share)
        crowd.join(*climb(model, crowd, z, schedule, proposals), self.starts)

    def _children(self, crowd: Crowd, keys: Tensor) -> Tensor:
        """Children (n, M, C, H, W) of the points of each image, by keys (n, M)."""
        image = torch.arange(len(crowd), device=keys.device)[:, None]
        first, second = (place.view_as(keys) for place in crossover.parents(keys.flatten(), crowd.z.shape[1]))
        ball, own = repeated(crowd.ball, keys.shape[1]), keys.flatten()
        mask = crossover.smooth_mask(rng.fold(own, 2), (crowd.z.shape[3], crowd.z.shape[4]), _SHARPNESS)
        z = crossover.blended(crowd.z[image, first].flatten(0, 1), crowd.z[image, second].flatten(0, 1), mask, ball)
        anew = crossover.patched(z, ball, rng.fold(own, 3), *_PATCH)
        # Spread over a generation, whose children are alike but for their keys.
        place = torch.arange(1, keys.shape[1] + 1, device=keys.device, dtype=torch.float64) * self.patched
        due = (place.floor() > (place - self.patched).floor()).repeat(len(keys))
        return torch.where(norms.per_example(due, z), anew, z).view(*keys.shape, *z.shape[1:])
