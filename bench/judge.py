"""x_adv to verdict: the only judgement there is, in float32 (sizes in float64), outside every attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench import norms, passes, standin
from bench.types import NOT_FINITE, Norm

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Judgement:
    """What proposed images are: predictions (N,) int64, sizes (N,) float64, lawfulness (N,) bool."""

    adv_pred: Tensor
    size: Tensor
    lawful: Tensor


def predictions(logits: Tensor) -> Tensor:
    """Predicted classes (N,); NOT_FINITE where a row of logits holds NaN or infinity."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NOT_FINITE)


def judge(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    x_adv: Tensor,
    clean_pred: Tensor,
    norm: Norm,
    eps: Tensor | None,
) -> Judgement:
    """Judge proposals x_adv (N, C, H, W) for clean images x with predictions clean_pred (N,) and eps (N,) or None.

    Lawful: finite, in [0, 1], and no larger than eps but for the rounding of float32 storage. An image that was not
    changed is not run through the model again. An unlawful proposal keeps its size, so that the fault can be seen.
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
        with standin.precision(tf32=False):
            adv_pred[changed] = predictions(passes.reference_outputs(model, x_adv[changed]))
    return Judgement(adv_pred, size, lawful)


def disagreements(model: Callable[[Tensor], Tensor], rows: Any, images: Any, clean: Any) -> Any:
    """The stored rows of one attack and eps that a new judgement does not bear out.

    `rows` is a table with the columns of `verdicts.csv`; `images` and `clean` are arrays (n, C, H, W).
    """
    x, x_adv = torch.tensor(clean), torch.tensor(images)
    label, norm, bound = torch.tensor(rows["label"].tolist()), rows["norm"].iloc[0], rows["eps"].iloc[0]
    eps = None if bound != bound else torch.full((len(rows),), float(bound), dtype=torch.float64)
    clean_pred = predictions(passes.reference_outputs(model, x))
    again = judge(model, x, x_adv, clean_pred, norm, eps)
    broken = (clean_pred == label) & again.lawful & (again.adv_pred != label) & (again.adv_pred != NOT_FINITE)
    # A search that met NaN and found nothing is flagged by the search itself, not by the image it left behind.
    flagged = torch.tensor((rows["adv_pred"] == NOT_FINITE).tolist()) & (again.size == 0)
    stands = (
        (clean_pred == torch.tensor(rows["clean_pred"].tolist()))
        & (again.adv_pred == torch.tensor(rows["adv_pred"].tolist()))
        & (again.lawful == torch.tensor(rows["lawful"].tolist()))
        & (broken == torch.tensor(rows["broken"].tolist()))
        & torch.isclose(again.size, torch.tensor(rows["size"].tolist(), dtype=torch.float64), rtol=1e-6, atol=1e-12)
    )
    return rows[~(stands | flagged).numpy()]
