"""Manifold-aware training (MAT): features gathered around preset class centers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import HasCenters, ThreatModel
from bench.ops import center_losses, passes, rng
from bench.ops.frozen import frozen
from defenses.defense import AdversarialDefense


@defenses.register("mat")
@dataclass(frozen=True)
class MAT(AdversarialDefense):
    """FTC + alpha SO + beta BIBO (eqs. 4, 6 and 8); alpha = 0 or beta = 0 gives the paper's ablations.

    BIBO's maximum is sought as TRADES seeks its second term, by PGD on the cosine distance to the clean features in
    evaluation mode; the loss is taken in training mode with the gradient through both features.

    Attributes:
        alpha: the weight of SO. The paper's text names neither this nor beta: 1 and TRADES' 6 are ours.
        beta: the weight of BIBO.
        start: the spread of the noise that PGD starts from, because the distance is flat at x.
    """

    step_size: str = "0.007"
    alpha: float = 1.0
    beta: float = 6.0
    start: float = 0.001

    needs: ClassVar[tuple[str, ...]] = ("features", "classify", "class_centers")

    def loss(self, model: HasCenters, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean loss; see `Defense.loss`."""
        x_adv = self._adversarial(model, x, y, keys) if self.beta else None
        z, centers = model.features(x), model.class_centers()
        total = center_losses.feature_to_center(z, centers, y)
        if self.alpha:
            total = total + self.alpha * center_losses.second_order(z, centers, y)
        if x_adv is not None:
            total = total + self.beta * center_losses.cosine_distance(z, model.features(x_adv))
        return total.mean()

    def _adversarial(self, model: HasCenters, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        away = center_losses.MatObjective(alpha=0, beta=1, ftc=0)
        start = x + self.start * rng.normal(keys, x.shape[1:])
        with frozen(model):
            clean = passes.outputs(model.features, x)
            return self.climb(model, away, self.ball(x), y, start, (clean,))

    def threat(self) -> ThreatModel | None:
        """The ball of BIBO's maximum; None without BIBO."""
        return super().threat() if self.beta else None

    def trained_with(self) -> dict[str, dict[str, Any]]:
        """The weights of the terms, for the adaptive attack `mat`."""
        return {"mat": {"alpha": self.alpha, "beta": self.beta}}
