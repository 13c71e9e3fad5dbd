"""x_adv to verdict: the only judgement there is, in float32 (sizes in float64), outside every attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import NOT_FINITE, Classifier, Norm
from bench.models import precision
from bench.ops import norms, passes

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Judgement:
    """What proposed images are: predictions (N,) int64, sizes (N,) float64, lawfulness (N,) bool."""

    adv_pred: Tensor
    size: Tensor
    lawful: Tensor


def predictions(logits: Tensor) -> Tensor:
    """Predicted classes (N,); NOT_FINITE where a row of logits tells none (see `passes.tells`)."""
    return torch.where(passes.tells(logits), logits.argmax(1), NOT_FINITE)


def judge(
    model: Classifier,
    x: Tensor,
    x_adv: Tensor,
    clean_pred: Tensor,
    norm: Norm,
    eps: Tensor | None,
) -> Judgement:
    """Judge the adversarial examples that an attack proposes.

    Lawful: finite, in [0, 1], and no larger than eps but for the rounding of float32 storage. An image that was not
    changed is not run through the model again. An unlawful proposal keeps its size, so that the fault can be seen.

    Args:
        model: what is attacked, never a copy to search on.
        x: clean images (N, C, H, W).
        x_adv: proposals (N, C, H, W).
        clean_pred: predictions (N,) on the clean images.
        norm: in which sizes are measured.
        eps: (N,), or None where any size is allowed.
    """
    x_adv = x_adv.to(x)
    size = norms.size(x_adv.double() - x.double(), norm)
    flat = x_adv.flatten(1)
    lawful = flat.isfinite().all(1) & (flat >= 0).all(1) & (flat <= 1).all(1)
    if eps is not None:
        lawful &= size <= eps.double() * (1 + TOLERANCE) + norms.rounding(x.shape[1:], norm)
    adv_pred = torch.where(flat.isfinite().all(1), clean_pred, NOT_FINITE)
    changed = ((x_adv != x).flatten(1).any(1) & flat.isfinite().all(1)).nonzero().squeeze(1)
    if len(changed):
        with precision.precision(tf32=False):
            adv_pred[changed] = predictions(passes.reference_outputs(model, x_adv[changed]))
    return Judgement(adv_pred, size, lawful)
