"""Per-example terms of Adversary Divergence Reduction: how far attacked features and predictions stray from clean ones.

Bui et al. 2020 (ADR); the exact forms and the weights of pairs are those of the code released with the paper. The clean
side is held fixed: no gradient flows through it, unless `Divergence.lc_held` frees that of the local term.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.core.types import HasFeatures
from bench.ops import losses

_SHARE = 0.99
"""a in the weight of a pair, (a - d) / a, where d is 0 within a class and 1 between classes."""

TERMS = ("lc", "gb", "smt", "conf")
"""The subscripts of the paper's weights lambda (supplement, table 1), in its order."""


def local_compactness(z_clean: Tensor, z_adv: Tensor, held: bool = True) -> Tensor:
    """L_lc (N,): mean absolute difference between clean features, held fixed or not, and attacked ones, both (N, D)."""
    return ((z_clean.detach() if held else z_clean) - z_adv).abs().mean(1)


def pair_weights(y: Tensor, y_clean: Tensor) -> Tensor:
    """Weights (N, M) of pairs of labels (N,) and (M,): 1 within a class, -0.0101 between classes.

    The released code divides by the largest distance of two labels in a batch, which is 0 where there is one class;
    here such a batch has weights 1 throughout.
    """
    other = (_SHARE - 1) / _SHARE
    return torch.where(y[:, None] == y_clean, 1.0, other)


def global_compactness(z_adv: Tensor, y: Tensor, z_clean: Tensor, y_clean: Tensor) -> Tensor:
    """L_gb (N,): weighted mean over M clean features of the mean absolute difference to each attacked one.

    Pulls attacked features (N, D) of class y (N,) toward all clean ones (M, D) of their class and, a hundredth as hard,
    away from the others. In training the clean ones are the same batch, each image's own included.
    """
    distances = torch.cdist(z_adv, z_clean.detach(), p=1.0) / z_adv.shape[1]
    return (pair_weights(y, y_clean) * distances).mean(1)


def smoothness(clean: Tensor, adversarial: Tensor) -> Tensor:
    """L_smt (N,): cross-entropy in nats of the attacked prediction under the clean one, from logits (N, K).

    The KL divergence of the two up to the clean prediction's entropy, which has no gradient here.
    """
    return -(clean.detach().softmax(1) * adversarial.log_softmax(1)).sum(1)


def entropy(logits: Tensor) -> Tensor:
    """L_conf (N,): entropy in nats of the prediction of logits (N, K)."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


@dataclass(frozen=True)
class Divergence:
    """lc L_lc + gb L_gb + smt L_smt + conf L_conf: ADR's components by their weights, 0 switches one off.

    Without `lc_held` the gradient of the local term flows through the clean features too.
    """

    lc: float = 1.0
    gb: float = 1.0
    smt: float = 1.0
    conf: float = 0.0
    lc_held: bool = True

    def __call__(
        self,
        clean: tuple[Tensor, Tensor],
        adversarial: tuple[Tensor, Tensor],
        y: Tensor,
        anchors: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Values (N,).

        Args:
            clean: features (N, D) and logits (N, K).
            adversarial: the same of the attacked images.
            y: labels (N,).
            anchors: clean features (M, D) and labels (M,) for the global term; None leaves it out.
        """
        total = adversarial[1].new_zeros(len(y))
        if self.lc:
            total = total + self.lc * local_compactness(clean[0], adversarial[0], self.lc_held)
        if self.gb and anchors is not None:
            total = total + self.gb * global_compactness(adversarial[0], y, *anchors)
        if self.smt:
            total = total + self.smt * smoothness(clean[1], adversarial[1])
        if self.conf:
            total = total + self.conf * entropy(adversarial[1])
        return total

    def switched_on(self) -> list[str]:
        """The names of the terms whose weight is not 0."""
        return [term for term in TERMS if getattr(self, term)]

    def without(self, term: str) -> Divergence:
        """The same with one term switched off."""
        return replace(self, **{term: 0.0})  # type: ignore[arg-type]


@dataclass(frozen=True)
class AdrObjective:
    """ce CE + ADR's components as its attacker climbs them. References: clean features (N, D) and logits (N, K).

    Entropy counts against: an attacker gains by a wrong prediction that is sure of itself. `anchors` stand for the
    clean batch of the global term.
    """

    weights: Divergence = Divergence()
    ce: float = 1.0
    anchors: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, model: HasFeatures, x: Tensor, y: Tensor, z_clean: Tensor, clean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values (N,) and logits (N, K)."""
        z = model.features(x)
        logits = model.classify(z)
        turned = replace(self.weights, conf=-self.weights.conf)
        total = turned((z_clean, clean), (z, logits), y, self.anchors)
        return total + self.ce * losses.cross_entropy(logits, y) if self.ce else total, logits
