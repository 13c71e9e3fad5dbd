"""Max-Mahalanobis center loss (Pang et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import HasCenters, ThreatModel
from bench.ops import center_losses, losses
from defenses.defense import AdversarialDefense


@defenses.register("mmc")
@dataclass(frozen=True)
class MMC(AdversarialDefense):
    """Half the squared distance of the features to the preset center of the label (eq. 8).

    Needs a model with class centers; the nearest one is its prediction. With `adversarial` (the paper's rows with AT),
    the loss is taken at images made by PGD on cross-entropy of the logits, from a uniform random start, in evaluation
    mode.
    """

    adversarial: bool = False

    needs: ClassVar[tuple[str, ...]] = ("features", "classify", "class_centers")

    def loss(self, model: HasCenters, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean loss; see `Defense.loss`."""
        if self.adversarial:
            ball = self.ball(x)
            x = self.climb(model, losses.ce, ball, y, ball.sample(keys))
        return center_losses.max_mahalanobis(model.features(x), model.class_centers(), y).mean()

    def threat(self) -> ThreatModel | None:
        """The ball of the inner attack, if there is one."""
        return super().threat() if self.adversarial else None
