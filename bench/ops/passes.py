"""The only place where attacks call the model: forward passes and input gradients, counted image by image.

Batches are padded, so that an image gets the same bits however images are grouped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import cast

import torch
from torch import Tensor

from bench.core.types import Classifier, Objective
from bench.ops import draws
from bench.ops.no_gradient import NoGradientError, explained, out_of_memory
from bench.ops.synchronisation import asks
from bench.ops.trails import Trail

__all__ = ["NoGradientError", "Tally", "among", "charge", "classes", "counted", "input_gradient", "jacobian"]
__all__ += ["out_of_memory", "outputs", "reference_outputs", "tells"]

# CPU kernels take small batches, and the last rows of an odd one, through other code paths that round differently: with
# whole quadruples from sixteen rows on, a row's logits and gradient are the same bits in any batch.
_ROWS, _FEWEST = 4, 16


class Tally:
    """Passes (N,) that each image of a batch took, and whether the model answered with NaN or infinity.

    `labels` (N,), if they are known, are the true classes of these images.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu", labels: Tensor | None = None) -> None:
        self.labels = labels
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.not_finite = torch.zeros(count, dtype=torch.bool, device=device)
        self.trail = Trail()

    def add(self, rows: Tensor, bad: Tensor, forwards: int, backwards: int) -> None:
        """Count some forward and backward passes for images `rows` (n,), of which `bad` (n,) met NaN or infinity.

        A place that is named several times, for several points of one image, counts as often.
        """
        self._add(rows, torch.full_like(rows, forwards), torch.full_like(rows, backwards), bad)

    def add_all(self, rows: Tensor, other: Tally) -> None:
        """Add what was counted for other images, which are `rows` (n,) here."""
        self._add(rows, other.forwards, other.backwards, other.not_finite)
        self.trail.extend(rows, other.trail)

    def _add(self, rows: Tensor, forwards: Tensor, backwards: Tensor, bad: Tensor) -> None:
        # Indexed assignment would count a repeated place once.
        self.forwards.index_add_(0, rows, forwards)
        self.backwards.index_add_(0, rows, backwards)
        self.not_finite |= torch.zeros_like(self.forwards).index_add_(0, rows, bad.long()) > 0


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


def _count(rows: Tensor | None, seen: int, bad: Tensor, forwards: int, backwards: int) -> Tally | None:
    tally = _tally.get()
    if tally is not None:
        tally.add(torch.arange(seen, device=bad.device) if rows is None else rows, bad, forwards, backwards)
    return tally


def _count_way(rows: Tensor | None, logits: Tensor, y: Tensor, bad: Tensor, forwards: int, backwards: int) -> None:
    """Count passes with a gradient, and note where the search for each image is by then."""
    tally = _count(rows, len(y), bad, forwards, backwards)
    if tally is not None:
        tally.trail.see(torch.arange(len(y), device=bad.device) if rows is None else rows, logits, y)


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
        tally.add(rows, torch.zeros_like(rows, dtype=torch.bool), forwards, backwards)


def _pad(tensor: Tensor) -> Tensor:
    short = max(_FEWEST, len(tensor) + -len(tensor) % _ROWS) - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(short, *tensor.shape[1:])]) if short and len(tensor) else tensor


def _own(x: Tensor) -> Tensor:
    """Padded images (n, C, H, W) in memory that nobody else holds: a model may write into what it is given."""
    padded = _pad(x)
    return padded.clone() if padded is x else padded


def tells(logits: Tensor) -> Tensor:
    """Whether (N,) rows of logits (N, K) tell a class: no NaN, no +infinity, and not -infinity throughout.

    A class at -infinity is one that the model rules out.
    """
    return logits.amax(1).isfinite()


def _finite(tensor: Tensor) -> Tensor:
    """Whether (N,) every entry of rows (N, ...) is finite."""
    flat = tensor.flatten(1)
    # A sum is finite only if every entry is, but overflows where entries are finite and large: then all are looked at.
    good = flat.sum(1).isfinite()
    if not asks(tensor.device) or not bool(good.all()):
        good = good | flat.isfinite().all(1)
    return good


def _plain(tensor: Tensor, like: Tensor) -> Tensor:
    """Floating-point outputs in the precision of the images: what an attack computes with them must not mix two."""
    return tensor.to(like.dtype) if tensor.is_floating_point() else tensor


def reference_outputs(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`call(x)` (N, ...) without a gradient, for images other than the attacked ones: counted for none of them."""
    with torch.no_grad():
        result = call(_own(x) if len(x) else x.new_zeros(_ROWS, *x.shape[1:]))
    # A model may hand out memory that it writes to at its next call.
    return _plain(result[: len(x)], x).clone()


def outputs(call: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor | None = None) -> Tensor:
    """`call(x)` (N, ...) without a gradient: a model's logits, or one of its methods such as `features`.

    `rows` (N,) are the places of `x` in the batch that the attack was given; None means all of it, in order.
    """
    made = list(draws.each(call, lambda: reference_outputs(call, x)))
    if len(x):
        good = torch.stack([tells(part) if part.dim() == 2 else _finite(part) for part in made]).all(0)
        _count(rows, len(x), ~good, len(made), backwards=0)
    return draws.decided(call, made, _labels(rows, len(x)))


def classes(model: Classifier, x: Tensor) -> int:
    """The number of classes K that the model tells apart, for images like x (N, C, H, W)."""
    return reference_outputs(model, x[:0]).shape[1]


def _climbed(
    objective: Objective, model: object, x: Tensor, y: Tensor, references: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """An objective's values (N,) or (N, J) at images, logits (N, K), and a gradient for each of J values, or of one.

    Raises:
        NoGradientError: there is none.
    """
    leaf = _pad(x).detach().requires_grad_(True)
    with torch.enable_grad():
        with explained(cut_off=False):
            values, logits = objective(model, leaf.clone(), _pad(y), *map(_pad, references))
        columns = [column.sum() for column in values.unbind(1)] if values.dim() == 2 else [values.sum()]
        last = len(columns) - 1
        with explained(cut_off=True):
            slopes = [torch.autograd.grad(total, leaf, retain_graph=j < last)[0] for j, total in enumerate(columns)]
    values, logits = (_plain(part.detach()[: len(x)], x) for part in (values, logits))
    return values, logits, [slope[: len(x)] for slope in slopes]


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
    once = partial(_climbed, objective, model, x, y, references)
    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradient = draws.decided(model, made, y), draws.mean([slope for (slope,) in slopes]).contiguous()
    _count_way(rows, logits, y, ~(tells(logits) & _finite(gradient)), len(made), len(made))
    return draws.mean(values), logits, gradient


def jacobian(
    objective: Objective, model: object, x: Tensor, y: Tensor, *references: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass, and one backward pass for each of the J values that an objective gives an image.

    `objective` returns values (N, J) instead of (N,). Returns them, logits (N, K) and input gradients (N, J, C, H, W).
    """
    once = partial(_climbed, objective, model, x, y, references)
    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradients = draws.decided(model, made, y), draws.mean([torch.stack(part, 1) for part in slopes])
    bad = ~(tells(logits) & _finite(gradients))
    _count_way(rows, logits, y, bad, len(made), len(made) * gradients.shape[1])
    return draws.mean(values), logits, gradients
