"""The only place where attacks call the model: forward passes and input gradients, counted image by image.

Batches are padded, so that an image gets the same bits however images are grouped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor

from bench.core.types import Classifier, Objective
from bench.ops import draws
from bench.ops.counting.direct_calls import through_passes
from bench.ops.counting.tally import (
    Tally,
    affordable,
    among,
    charge,
    count,
    count_way,
    counted,
    enter,
    known_labels,
    tells,
    within_limit,
)
from bench.ops.no_gradient import NoGradientError, explained, out_of_memory
from bench.ops.synchronisation import asks

__all__ = [
    "NoGradientError",
    "Tally",
    "affordable",
    "among",
    "charge",
    "classes",
    "counted",
    "input_gradient",
    "jacobian",
]
__all__ += ["out_of_memory", "outputs", "reference_outputs", "tells", "within_limit"]

# CPU kernels take small batches, and the last rows of an odd one, through other code paths that round differently: with
# whole quadruples from sixteen rows on, a row's logits and gradient are the same bits in any batch.
_ROWS, _FEWEST = 4, 16


def _pad(tensor: Tensor) -> Tensor:
    short = max(_FEWEST, len(tensor) + -len(tensor) % _ROWS) - len(tensor)
    return torch.cat([tensor, tensor[-1:].expand(short, *tensor.shape[1:])]) if short and len(tensor) else tensor


def _own(x: Tensor) -> Tensor:
    """Padded images (n, C, H, W) in memory that nobody else holds: a model may write into what it is given."""
    padded = _pad(x)
    return padded.clone() if padded is x else padded


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
    with torch.no_grad(), through_passes():
        result = call(_own(x) if len(x) else x.new_zeros(_ROWS, *x.shape[1:]))
    # A model may hand out memory that it writes to at its next call.
    return _plain(result[: len(x)], x).clone()


def outputs(call: Callable[[Tensor], Tensor], x: Tensor, rows: Tensor | None = None) -> Tensor:
    """`call(x)` (N, ...) without a gradient: a model's logits, or one of its methods such as `features`.

    `rows` (N,) are the places of `x` in the batch that the attack was given; None means all of it, in order.
    """
    if len(x):
        enter(rows, x)
    made = list(draws.each(call, lambda: reference_outputs(call, x)))
    decided = draws.decided(call, made, known_labels(rows, len(x)))
    if len(x):
        good = torch.stack([tells(part) if part.dim() == 2 else _finite(part) for part in made]).all(0)
        count(rows, x, (call, decided), ~good, len(made), 0)
    return decided


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
        with explained(cut_off=False), through_passes():
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
    enter(rows, x)
    once = partial(_climbed, objective, model, x, y, references)
    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradient = draws.decided(model, made, y), draws.mean([slope for (slope,) in slopes]).contiguous()
    count_way(rows, x, logits, y, ~(tells(logits) & _finite(gradient)), len(made), len(made))
    return draws.mean(values), logits, gradient


def jacobian(
    objective: Objective, model: object, x: Tensor, y: Tensor, *references: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass, and one backward pass for each of the J values that an objective gives an image.

    `objective` returns values (N, J) instead of (N,). Returns them, logits (N, K) and input gradients (N, J, C, H, W).
    """
    enter(rows, x)
    once = partial(_climbed, objective, model, x, y, references)
    values, made, slopes = zip(*draws.each(model, once), strict=True)
    logits, gradients = draws.decided(model, made, y), draws.mean([torch.stack(part, 1) for part in slopes])
    bad = ~(tells(logits) & _finite(gradients))
    count_way(rows, x, logits, y, bad, len(made), len(made) * gradients.shape[1])
    return draws.mean(values), logits, gradients
