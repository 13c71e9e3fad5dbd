"""Natural training: no defense, the row that every table starts with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import Classifier
from bench.ops import losses
from defenses.defense import Defense


@defenses.register("natural")
@dataclass(frozen=True)
class Natural(Defense):
    """Cross-entropy on clean images."""

    def loss(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean cross-entropy; see `Defense.loss`."""
        return losses.cross_entropy(model(x), y).mean()
