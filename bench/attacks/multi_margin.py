"""PGD on the margin of every wrong class in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench.attacks.adaptive import Adaptive
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.ops import losses, passes
from bench.ops.ascent import Attempt


def rival_margin(model: Any, x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logit of a target class (N,) minus the true logit."""
    logits = model(x)
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1), logits


@attacks.register("multi_margin")
@dataclass(frozen=True)
class MultiMargin(Adaptive):
    """Climb the logit difference to one wrong class after another, each from a random start (Gowal et al. 2019).

    The `targets` classes with the highest clean logits, highest first; nine are all of ten. Against training that
    flattens cross-entropy, or that guards the way to the runner-up alone, as bilateral adversarial training does: for
    such models `adaptive` includes it.
    """

    steps: int = bounded(100, low=1)
    targets: int = bounded(9, low=1)

    adaptive_to: ClassVar[tuple[str, ...]] = ("bilateral",)

    def attempts(self, model: Any, x: Tensor, y: Tensor) -> Iterator[Attempt]:
        """One ascent a target."""
        for target in losses.strongest_others(passes.outputs(model, x), y, self.targets).unbind(1):
            yield Attempt(rival_margin, (target,))
