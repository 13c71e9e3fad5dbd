"""Beyond: the strong ensemble, then islands on what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from bench.attacks.autoattack import Stages
from bench.attacks.beyond.islands import Islands
from bench.attacks.pma import PMA
from bench.attacks.soft import Soft
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import passes, rng
from bench.ops.active_set import Proposals


@attacks.register("beyond")
@dataclass(frozen=True)
class Beyond:
    """The stages of `strong`, then a search with populations, island by island, each on what is left.

    For the images of which one wants to be as sure as an attack can make: an island takes some 22,000 passes. See
    `islands` for its parts.

    Args:
        islands: islands, each a stage of its own.
        starts: see `islands`, as are the others.
        steps: steps of each start.
        generations: generations of an island.
        children: children of a generation.
        polish: steps that each child climbs.
        share: width of the softened derivative.
        pieces: linear pieces of a ReLU net that an island's last points climb through.
    """

    islands: int = bounded(5, low=1)
    starts: int = bounded(24, low=2)
    steps: int = bounded(60, low=1)
    generations: int = bounded(40, low=0)
    children: int = bounded(24, low=1)
    polish: int = bounded(20, low=1)
    share: float = bounded(0.3, low=0, high=10)
    pieces: int = bounded(8, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        yield "soft", Soft()
        yield "pma", PMA()
        own: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "islands"}
        for island in range(self.islands):
            yield f"island_{island + 1}", Islands(islands=1, first=island, **own)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        eps, proposals = budget.bound("beyond"), Proposals(x)
        for turn, (_, stage) in enumerate(self.stages(budget.norm)):
            rows = proposals.missing
            if not len(rows):
                break
            with passes.among(rows):
                z = stage(model, x[rows], y[rows], Budget(budget.norm, eps[rows]), rng.fold(keys[rows], turn))
            proposals.record(rows, z, (z != x[rows]).flatten(1).any(1))
        return proposals.x_adv
