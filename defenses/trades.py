"""TRADES (Zhang et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import Classifier
from bench.ops import losses, passes, rng
from bench.ops.frozen import frozen
from defenses.defense import AdversarialDefense


def kl_from_clean(model: Classifier, x: Tensor, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """KL(clean || adversarial) alone, as an objective. Reference: clean logits (N, K)."""
    logits = model(x)
    return losses.kl_divergence(clean, logits), logits


@defenses.register("trades")
@dataclass(frozen=True)
class Trades(AdversarialDefense):
    """CE(clean) + beta max KL(clean || adversarial) (eq. 5, beta is 1/lambda), gradient through both predictions.

    As in the authors' code: the inner attack climbs the KL from x + 0.001 N(0, 1), in evaluation mode.
    """

    step_size: str = "0.007"
    beta: float = 6.0
    start: float = 0.001

    def loss(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean loss; see `Defense.loss`."""
        with frozen(model):
            clean = passes.outputs(model, x)
            start = x + self.start * rng.normal(keys, x.shape[1:])
            x_adv = self.climb(model, kl_from_clean, self.ball(x), y, start, (clean,))
        logits = model(x)
        natural = losses.cross_entropy(logits, y)
        return (natural + self.beta * losses.kl_divergence(logits, model(x_adv))).mean()

    def trained_with(self) -> dict[str, dict[str, Any]]:
        """The weight of the KL term, for the adaptive attack `kl`."""
        return {"kl": {"beta": self.beta}}
