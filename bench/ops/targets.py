"""In which order to take the wrong classes as targets."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.types import Classifier, Norm
from bench.ops import losses, norms, passes

POOL = 20
"""Highest wrong logits among which targets are ordered: each costs a backward pass."""


def nearest(model: Classifier, x: Tensor, y: Tensor, norm: Norm, count: int, rows: Tensor | None = None) -> Tensor:
    """The `count` wrong classes (N, J) whose boundaries are nearest to each image, nearest first, or all others.

    Nearest in the linearised model: by the gap of the logits over the dual norm of the difference of their gradients
    (MALT, Melamed et al. 2024, arXiv:2407.02240, eq. 3), where the highest logits alone are the usual order. It takes a
    forward pass, one more where there are more classes than `POOL`, and a backward pass for each class considered.
    """
    rivals = y.new_zeros(len(y), 0)
    classes = passes.classes(model, x)
    if classes - 1 > POOL:
        rivals = losses.strongest_others(passes.outputs(model, x, rows=rows), y, POOL)
    gaps, _, slopes = passes.jacobian(losses.rival_margins, model, x, y, rivals, rows=rows)
    if not rivals.shape[1]:
        rivals = losses.all_others(y, classes)
    lengths = norms.length(slopes.flatten(0, 1), norms.DUAL[norm]).view_as(gaps)
    # A class whose gradient vanishes is as far away as can be, whatever its logit.
    far = torch.where(lengths > 0, gaps.double() / lengths.double().clamp_min(1e-300), -torch.inf)
    order = far.nan_to_num(-torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    return rivals.gather(1, order)
