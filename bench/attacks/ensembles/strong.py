"""`strong`: what AutoAttack finds, for about a fifth of its passes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bench.attacks.budgeted.apgd import APGDCE, APGDDLR, APGDT
from bench.attacks.budgeted.pma import PMA
from bench.attacks.budgeted.soft import Soft
from bench.attacks.ensembles.ensemble import Ensemble, Stages
from bench.attacks.gradient_free.square import Square
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Norm, Scene

_NEAREST = 3
_FEWEST = _NEAREST + 1
"""Classes that the targeted difference of logits ratio needs."""


@attacks.register("strong")
@dataclass(frozen=True)
class Strong(Ensemble):
    """Five attacks in turn that fail on different images; recommended where AutoAttack would be run.

    1. `soft` toward the two nearest classes: finds nearly all that AutoAttack finds, in a hundred passes.
    2. `pma`: the exact gradient of another objective.
    3. `apgd_ce` and 4. `apgd_t` toward the three nearest classes: two of AutoAttack's own, for models without a
       ReLU, and where a step size of their own pays.
    5. `square`: no gradient at all. What it breaks after the others says that gradients are masked.

    Not AutoAttack, and not to be quoted as such.

    Args:
        steps: steps of `soft` and `apgd_t` toward a target; `pma` and `apgd_ce` take twice as many.
        targets: targets of `soft`.
        share: softness of `soft`.
        queries: queries of `square`.
    """

    steps: int = bounded(50, low=1)
    targets: int = bounded(2, low=1)
    share: float = bounded(0.3, low=0, high=10)
    queries: int = bounded(500, low=1)
    classes: int = field(default=_FEWEST, repr=False, metadata={"bound": True})
    softens: str = field(default="", repr=False, metadata={"bound": True, "recorded": True})

    def bind(self, scene: Scene) -> Strong:
        """Take note of the number of classes, and of what a softened backward pass reaches."""
        return replace(self, classes=scene.classes, softens=scene.softens())

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        twice = 2 * self.steps
        yield "soft", Soft(self.steps, self.targets, self.share, softens=self.softens)
        yield "pma", PMA(twice)
        yield "apgd_ce", APGDCE(twice)
        if self.classes >= _FEWEST:
            yield "apgd_t", APGDT(self.steps, targets=_NEAREST, order="nearest")
        elif self.classes == _FEWEST - 1:
            yield "apgd_dlr", APGDDLR(twice)
        yield "square", Square(self.queries)
