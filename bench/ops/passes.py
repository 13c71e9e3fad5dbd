"""The only place where attacks call the model: forward passes and input gradients, counted image by image.

Batches are padded, so that an image gets the same bits however images are grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor

from bench.core.types import Classifier, Objective
from bench.ops import draws

# CPU kernels take small batches, and the last rows of an odd one, through other code paths that round differently: with
# whole quadruples from sixteen rows on, a row's logits and gradient are the same bits in any batch.
_ROWS, _FEWEST = 4, 16
# CUDA's allocator, its libraries, and torch's CPU allocator on Linux and on Windows.
_FULL = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")


class Tally:
    """Passes (N,) that each image of a batch took, and whether the model answered with NaN or infinity.

    `labels` (N,), if they are known, are the true classes of these images.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu", labels: Tensor | None = None) -> None:
        self.labels = labels
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.not_finite = torch.zeros(count, dtype=torch.bool, device=device)

    def add(self, rows: Tensor, bad: Tensor, forwards: int, backwards: int) -> None:
        """Count some forward and backward passes for images `rows` (n,), of which `bad` (n,) met NaN or infinity."""
        self.forwards[rows] += forwards
        self.not_finite[rows] |= bad
        self.backwards[rows] += backwards

    def add_all(self, rows: Tensor, other: Tally) -> None:
        """Add what was counted for other images, which are `rows` (n,) here."""
        self.forwards[rows] += other.forwards
        self.backwards[rows] += other.backwards
        self.not_finite[rows] |= other.not_finite


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def counted(count: int, device: torch.device | str = "cpu", labels: Tensor | None = None) -> Iterator[Tally]:
    """Count the passes made inside the block for a batch of `count` images."""
    tally = Tally(count, device, labels)
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


def _count(rows: Tensor | None, seen: int, bad: Tensor, forwards: int, backwards: int) -> None:
    tally = _tally.get()
    if tally is not None:
        tally.add(torch.arange(seen, device=bad.device) if rows is None else rows, bad, forwards, backwards)


def _labels(rows: Tensor | None, seen: int) -> Tensor | None:
    """The labels of images at `rows` (n,), or of a whole batch of as many as were `seen`, if they are known."""
    tally = _tally.get()
    if tally is None or tally.labels is None:
        return None
    return tally.labels[:seen] if rows is None else tally.labels[rows]


@contextmanager
def among(rows: Tensor) -> Iterator[None]:
    """Inside, the places of images are counted as if the batch held those at `rows` (n,) alone."""
    outer = _tally.get()
    labels = None if outer is None or outer.labels is None else outer.labels[rows]
    with counted(len(rows), rows.device, labels) as tally:
        yield
    if outer is not None:
        outer.add_all(rows, tally)


def charge(rows: Tensor, forwards: int, backwards: int) -> None:
    """Count passes that another library made, the same number for each image of `rows` (n,)."""
    tally = _tally.get()
    if tally is not None:
        tally.forwards[rows] += forwards
        tally.backwards[rows] += backwards


def _pad(tensor: Tensor) -> Tensor:
    short = max(_FEWEST, len(tensor) + -len(tensor) % _ROWS) - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(short, *tensor.shape[1:])]) if short and len(tensor) else tensor


def _not_finite(*tensors: Tensor) -> Tensor:
    # The sum of a row is finite only if every entry is; one cheap pass, and no synchronisation.
    return ~torch.stack([t.flatten(1).sum(1) for t in tensors]).isfinite().all(0)


def reference_outputs(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`call(x)` (N, ...) without a gradient, for images other than the attacked ones: counted for none of them."""
    with torch.no_grad():
        result = call(_pad(x) if len(x) else x.new_zeros(_ROWS, *x.shape[1:]))
    return result[: len(x)]


def outputs(call: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor | None = None) -> Tensor:
    """`call(x)` (N, ...) without a gradient: a model's logits, or one of its methods such as `features`.

    `rows` (N,) are the places of `x` in the batch that the attack was given; None means all of it, in order.
    """
    made = list(draws.each(call, lambda: reference_outputs(call, x)))
    if len(x):
        _count(rows, len(x), _not_finite(*made), draws.count(call), backwards=0)
    return draws.decided(call, made, _labels(rows, len(x)))


def classes(model: Classifier, x: Tensor) -> int:
    """The number of classes K that the model tells apart, for images like x (N, C, H, W)."""
    return reference_outputs(model, x[:0]).shape[1]


def input_gradient(
    objective: Objective, model: object, x: Tensor, y: Tensor, *references: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and one backward pass: an objective's values (N,), logits (N, K) and input gradient (N, C, H, W).

    Of an averaged model as many as it has draws, and the means of all three.
    `model` is whatever the objective takes. The gradient is with respect to the input alone: no weight gradient is ever
    computed.
    """
    if not len(x):
        return x.new_zeros(0), outputs(cast(Classifier, model), x), x.clone()
    padded, labels, others = _pad(x).detach().requires_grad_(True), _pad(y), [*map(_pad, references)]

    def once() -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            values, logits = objective(model, padded, labels, *others)
            (gradient,) = torch.autograd.grad(values.sum(), padded)
        return values.detach()[: len(x)], logits.detach()[: len(x)], gradient[: len(x)]

    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradient = draws.decided(model, made, y), draws.mean(slopes).contiguous()
    _count(rows, len(x), _not_finite(logits, gradient), len(made), backwards=len(made))
    return draws.mean(values), logits, gradient


def jacobian(
    objective: Objective, model: object, x: Tensor, y: Tensor, *references: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass, and one backward pass for each of the J values that an objective gives an image.

    `objective` returns values (N, J) instead of (N,). Returns them, logits (N, K) and input gradients (N, J, C, H, W).
    """
    padded, labels, others = _pad(x).detach().requires_grad_(True), _pad(y), [*map(_pad, references)]

    def once() -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            values, logits = objective(model, padded, labels, *others)
            columns = [column.sum() for column in values.unbind(1)]
            last = len(columns) - 1
            slopes = [torch.autograd.grad(total, padded, retain_graph=j < last)[0] for j, total in enumerate(columns)]
        return values.detach()[: len(x)], logits.detach()[: len(x)], torch.stack(slopes, 1)[: len(x)]

    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradients = draws.decided(model, made, y), draws.mean(slopes)
    _count(rows, len(x), _not_finite(logits, gradients), len(made), backwards=len(made) * gradients.shape[1])
    return draws.mean(values), logits, gradients


def out_of_memory(fault: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in torch's CPU allocator, not that a call is wrong."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(fault, RuntimeError) and any(sign in str(fault).lower() for sign in _FULL)
