"""`beyond`: the stages of `strong`, then islands on what they leave."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bench.attacks.budgeted.islands import Islands
from bench.attacks.ensembles.ensemble import Ensemble, Stages
from bench.attacks.ensembles.strong import Strong
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Norm, Scene


@attacks.register("beyond")
@dataclass(frozen=True)
class Beyond(Ensemble):
    """The stages of `strong`, then a search with populations, island by island: what AutoAttack cannot break.

    An island takes some 22,000 passes an image, and each is a stage with a row of its own. See `islands` for its parts.

    Args:
        islands: islands at most.
        starts: random starts of an island, and points that go on from generation to generation.
        steps: steps of each start.
        generations: generations of an island.
        children: children of a generation.
        polish: steps that each child climbs.
        share: width of the softened derivative, of islands and of `strong`; 0 is exact.
        pieces: linear pieces of a ReLU net that an island's last points climb through; 0 is none.
    """

    islands: int = bounded(5, low=1)
    starts: int = bounded(24, low=2)
    steps: int = bounded(60, low=1)
    generations: int = bounded(40, low=0)
    children: int = bounded(24, low=1)
    polish: int = bounded(20, low=1)
    share: float = bounded(0.3, low=0, high=10)
    pieces: int = bounded(8, low=0)
    strong: Strong = field(default=Strong(), repr=False, metadata={"bound": True})

    @property
    def points(self) -> int:
        """Points of an image that go through the model at once."""
        return max(self.starts, self.children)

    def bind(self, scene: Scene) -> Beyond:
        """Take note of what `strong` asks for."""
        return replace(self, strong=replace(self.strong.bind(scene), share=self.share))

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        yield from self.strong.stages(norm)
        shared = {"starts", "steps", "generations", "children", "polish", "share", "pieces"}
        own: dict[str, Any] = {name: getattr(self, name) for name in shared}
        for island in range(self.islands):
            yield f"island_{island + 1}", Islands(islands=1, first=island, softens=self.strong.softens, **own)
