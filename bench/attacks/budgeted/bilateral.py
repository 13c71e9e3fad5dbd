"""The attack on bilateral adversarial training's own loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.attacks.budgeted.adaptive import Adaptive
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Classifier
from bench.ops import passes
from bench.ops.adversarial_labels import SOLUTIONS, LabelAdversary, Solution, soft_ce
from bench.ops.ascent import Attempt


@attacks.register("bilateral")
@dataclass(frozen=True)
class Bilateral(Adaptive[Classifier]):
    """PGD on cross-entropy of the clean image's adversarial label: R-MC-LA's training loss, climbed (sections 3 and 5).

    A checkpoint's stanza sets the fields to what the model was trained with. `adaptive` includes it for such models.
    """

    labels: Solution = bounded("main", choices=SOLUTIONS)
    beta: float = bounded(9.0, low=1)
    gamma: float = bounded(0.01, above=0)
    top: int = bounded(0, low=0)

    adaptive_to: ClassVar[tuple[str, ...]] = ("bilateral",)
    also_told: ClassVar[tuple[str, ...]] = ("eps", "target", "random_start")

    def attempts(self, model: Classifier, x: Tensor, y: Tensor) -> Iterator[Attempt]:
        """One ascent, against the labels of the clean logits."""
        adversary = LabelAdversary(self.labels, self.beta, self.gamma, self.top)
        yield Attempt(soft_ce, (adversary(passes.outputs(model, x), y),))
