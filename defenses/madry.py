"""Adversarial training (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import Classifier
from bench.ops import losses
from defenses.defense import AdversarialDefense


@defenses.register("madry")
@dataclass(frozen=True)
class Madry(AdversarialDefense):
    """Cross-entropy on adversarial images only, made by PGD on cross-entropy from a uniform random start (eq. 2.1).

    The attack runs in evaluation mode; the authors' code attacks in training mode.
    """

    def loss(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean cross-entropy at the adversarial images; see `Defense.loss`."""
        ball = self.ball(x)
        x_adv = self.climb(model, losses.ce, ball, y, ball.sample(keys))
        return losses.cross_entropy(model(x_adv), y).mean()
