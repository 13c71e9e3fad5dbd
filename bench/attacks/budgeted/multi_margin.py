"""PGD on the margin of every wrong class in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.attacks.budgeted.adaptive import Adaptive
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Classifier
from bench.ops import losses, passes
from bench.ops.ascent import Attempt


@attacks.register("multi_margin")
@dataclass(frozen=True)
class MultiMargin(Adaptive[Classifier]):
    """Climb the logit difference to one wrong class after another, each from a random start (Gowal et al. 2019).

    The `targets` classes with the highest clean logits, highest first; nine are all of ten. Against training that
    flattens cross-entropy, or that guards the way to the runner-up alone, as bilateral adversarial training does: for
    such models `adaptive` includes it.
    """

    steps: int = bounded(100, low=1)
    targets: int = bounded(9, low=1)

    adaptive_to: ClassVar[tuple[str, ...]] = ("bilateral",)

    def attempts(self, model: Classifier, x: Tensor, y: Tensor) -> Iterator[Attempt]:
        """One ascent a target."""
        for target in losses.strongest_others(passes.outputs(model, x), y, self.targets).unbind(1):
            yield Attempt(losses.rival_margin, (target,))
