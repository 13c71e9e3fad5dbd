"""What minimal attacks share: directions, annealing, the reach of the box, a last search toward the clean image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.core.types import Classifier, Norm
from bench.ops import active_set, losses, norms, passes, rng
from bench.ops.active_set import Proposals

_REACH = torch.finfo(torch.float32).max


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """The value at `step` of `steps` of a cosine annealing from `first` to `last`."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def farthest(x: Tensor, norm: Norm) -> Tensor:
    """Distance (N,) from images x (N, C, H, W) to the corner of [0, 1] that is farthest away."""
    return norms.size(torch.maximum(x, 1 - x), norm)


def fill_zero_gradients(gradient: Tensor, length: Tensor, keys: Tensor, step: int) -> Tensor:
    """The gradients (N, C, H, W) of some length (N,), in any norm, those that are exactly zero overwritten.

    They get a random direction drawn by key (N,), of length 1 in l2.
    """
    # Squares of small entries may all vanish: only where the length is tiny is it worth a look at every entry.
    at = active_set.places(length < norms.TINY)
    if at is not None:
        flat = gradient[at].flatten(1).abs().amax(1) == 0
        draws = rng.normal(rng.fold(keys[at], step), gradient.shape[1:])
        drawn = norms.steepest(draws.to(gradient.dtype), "l2")
        gradient[at] = torch.where(norms.per_example(flat, drawn), drawn, gradient[at])
    return gradient


def unit(gradient: Tensor, keys: Tensor, step: int) -> Tensor:
    """Gradients (N, C, H, W) at length 1 in l2; where one is exactly zero, a random direction drawn by key (N,)."""
    return fill_zero_gradients(*norms.unit(gradient), keys, step)


def inward(gradient: Tensor, z: Tensor) -> Tensor:
    """Gradients (N, C, H, W) without the components that would push pixels of the images z out of [0, 1]."""
    # A clamp between bounds that are zero on a face and out of reach elsewhere: masks take several times as long.
    return torch.clamp(gradient, z * -_REACH, torch.sub(_REACH, z, alpha=_REACH))


def fools(logits: Tensor, y: Tensor, confidence: float = 0.0) -> Tensor:
    """Whether (N,) each row of logits (N, K) is wrong, by a margin of at least `confidence` if that is positive."""
    wrong = active_set.misclassified(logits, y)
    return wrong & (losses.margin(logits, y) >= confidence) if confidence > 0 else wrong


def _shrunk(x: Tensor, x_adv: Tensor, norm: Norm, share: Tensor) -> Tensor:
    """The image at `share` (N,) of the size of x_adv: on the segment to x, in linf by cutting the largest changes."""
    delta = x_adv - x
    if norm == "linf":
        bound = norms.per_example(share * norms.size(delta, norm), x)
        return x + delta.clamp(-bound, bound)
    return x + delta * norms.per_example(share, x)


def toward_clean(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    proposals: Proposals,
    norm: Norm,
    steps: int,
    confidence: float = 0.0,
    rows: Tensor | None = None,
) -> None:
    """Bisect between each proposal and its clean image x (N, C, H, W), `steps` forward passes each.

    Updates `proposals`, at places `rows` (n,) of the batch if they are given. Adversarial examples need not form an
    interval on that way: the smallest that is met is kept.
    """
    if rows is None:
        rows = (proposals.size.isfinite() & (proposals.size > 0)).nonzero().squeeze(1)
    if not steps or not len(rows):
        return
    clean, label, far = x[rows], y[rows], proposals.x_adv[rows]
    low, high = torch.zeros_like(proposals.size[rows]), torch.ones_like(proposals.size[rows])
    for _ in range(steps):
        share = (low + high) / 2
        z = _shrunk(clean, far, norm, share)
        fooled = fools(passes.outputs(model, z, rows=rows), label, confidence)
        proposals.record_smaller(rows, z, fooled, norms.size(z - clean, norm))
        low, high = torch.where(fooled, low, share), torch.where(fooled, share, high)
