"""The only place where attacks call the model: forward passes and input gradients, counted image by image.

Batches are padded to a multiple of four rows. CPU kernels take the last rows of an odd batch through another code path
that rounds differently; with whole quadruples a row's logits and gradient are the same bits in any batch, which is what
makes results independent of how images are grouped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from bench.types import Objective

_ROWS = 4


class Tally:
    """Passes (N,) that each image of a batch took, and whether the model answered with NaN or infinity."""

    def __init__(self, count: int, device: torch.device | str = "cpu") -> None:
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.not_finite = torch.zeros(count, dtype=torch.bool, device=device)

    def add(self, rows: Tensor, bad: Tensor, backward: bool) -> None:
        """Count one pass for the images `rows` (n,), of which `bad` (n,) met NaN or infinity."""
        self.forwards[rows] += 1
        self.not_finite[rows] |= bad
        if backward:
            self.backwards[rows] += 1


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def counted(count: int, device: torch.device | str = "cpu") -> Iterator[Tally]:
    """Count the passes made inside the block for a batch of `count` images."""
    tally = Tally(count, device)
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


def _count(rows: Tensor | None, seen: int, bad: Tensor, backward: bool) -> None:
    tally = _tally.get()
    if tally is not None:
        tally.add(torch.arange(seen, device=bad.device) if rows is None else rows, bad, backward)


def _pad(tensor: Tensor) -> Tensor:
    short = -len(tensor) % _ROWS
    return torch.cat([tensor, tensor[-1:].expand(short, *tensor.shape[1:])]) if short else tensor


def _not_finite(*tensors: Tensor) -> Tensor:
    # The sum of a row is finite only if every entry is; one cheap pass, and no synchronisation.
    return ~torch.stack([t.flatten(1).sum(1) for t in tensors]).isfinite().all(0)


def outputs(call: Any, x: Tensor, rows: Tensor | None = None) -> Tensor:
    """`call(x)` (N, ...) without a gradient: a model's logits, or one of its methods such as `features`.

    `rows` (N,) are the places of `x` in the batch that the attack was given; None means all of it, in order.
    """
    if not len(x):
        with torch.no_grad():
            return call(x.new_zeros(_ROWS, *x.shape[1:]))[:0]
    with torch.no_grad():
        result: Tensor = call(_pad(x))[: len(x)]
    _count(rows, len(x), _not_finite(result), backward=False)
    return result


def classes(model: Any, x: Tensor) -> int:
    """The number of classes K that the model tells apart, for images like x (N, C, H, W)."""
    return outputs(model, x[:0]).shape[1]


def ascent_direction(
    objective: Objective, model: Any, x: Tensor, y: Tensor, *references: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass: values (N,), logits (N, K) and the input gradient (N, C, H, W) of an objective.

    The gradient is taken with respect to the input alone: no weight gradient is ever computed.
    """
    if not len(x):
        return x.new_zeros(0), outputs(model, x), x.clone()
    padded = _pad(x).detach().requires_grad_(True)
    with torch.enable_grad():
        values, logits = objective(model, padded, _pad(y), *map(_pad, references))
        (gradient,) = torch.autograd.grad(values.sum(), padded)
    values, logits, gradient = values.detach()[: len(x)], logits.detach()[: len(x)], gradient[: len(x)]
    _count(rows, len(x), _not_finite(logits, gradient), backward=True)
    return values, logits, gradient
