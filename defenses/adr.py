"""Adversary Divergence Reduction (Bui et al. 2020): ADR-ADV, ADR-TRADES and their ablations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from bench.core.registry import defenses
from bench.core.types import HasFeatures, UserError
from bench.ops import losses, passes, rng
from bench.ops.frozen import frozen
from bench.ops.latent_losses import TERMS, Divergence
from defenses.defense import AdversarialDefense
from defenses.trades import kl_from_clean


@defenses.register("adr")
@dataclass(frozen=True)
class ADR(AdversarialDefense):
    """Adversarial training or TRADES, and clean and attacked images kept together in a latent layer.

    The layer is where the model's `cut` puts its features; the paper's follows the convolutions. The inner attack runs
    in evaluation mode; the authors' first code attacks in training mode.

    Attributes:
        base: adv attacks cross-entropy from a uniform start; trades attacks KL from x + `start` N(0, 1).
        lc: the weight (the paper's lambda) of local compactness; see `bench.ops.latent_losses` for all four. With all
            of them 0 this is the paper's ADV, or TRADES with `beta`.
        gb: the weight of global compactness.
        smt: the weight of smoothness.
        conf: the weight of confidence.
        form: how adv weighs clean and adversarial cross-entropy. tf, the code released with the paper, halves both;
            port, its later PyTorch version, takes both whole, so that the components weigh half as much there.
        beta: the weight of TRADES' KL.
        start: the spread of the noise that trades starts from.
        lc_gradient: adversarial holds the clean features of the local term fixed, as both codes do. Where attacks
            lower features, that raises the clean ones too, which share the weights, so that nothing bounds their
            scale; both lets the gradient through both.
    """

    step_size: str = "0.007"
    base: Literal["adv", "trades"] = "adv"
    lc: float = 1.0
    gb: float = 1.0
    smt: float = 1.0
    conf: float = 0.0
    form: Literal["tf", "port"] = "tf"
    beta: float = 1.0
    start: float = 0.001
    lc_gradient: Literal["adversarial", "both"] = "adversarial"

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (*TERMS, "beta"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"adr weight {name} is {weight}: give a finite number of at least 0")

    def loss(self, model: HasFeatures, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean loss; see `Defense.loss`."""
        x_adv = self._adversarial(model, x, y, keys)
        z, z_adv = model.features(x), model.features(x_adv)
        logits, logits_adv = model.classify(z), model.classify(z_adv)
        components = Divergence(self.lc, self.gb, self.smt, self.conf, lc_held=self.lc_gradient == "adversarial")
        apart = components((z, logits), (z_adv, logits_adv), y, (z, y))
        return (self._base(logits, logits_adv, y) + apart).mean()

    def _base(self, logits: Tensor, logits_adv: Tensor, y: Tensor) -> Tensor:
        natural = losses.cross_entropy(logits, y)
        if self.base == "trades":
            return natural + self.beta * losses.kl_divergence(logits, logits_adv)
        both = natural + losses.cross_entropy(logits_adv, y)
        return both / 2 if self.form == "tf" else both

    def _adversarial(self, model: HasFeatures, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        ball = self.ball(x)
        if self.base == "adv":
            return self.climb(model, losses.ce, ball, y, ball.sample(keys))
        with frozen(model):
            clean = passes.outputs(model, x)
            start = x + self.start * rng.normal(keys, x.shape[1:])
            return self.climb(model, kl_from_clean, ball, y, start, (clean,))

    def trained_with(self) -> dict[str, dict[str, Any]]:
        """The weights of the components, for the adaptive attack `adr`, and that of TRADES' term for `kl`."""
        own: dict[str, Any] = {"base": self.base} | {name: getattr(self, name) for name in TERMS}
        return {"adr": own} | ({"kl": {"beta": self.beta}} if self.base == "trades" else {})
