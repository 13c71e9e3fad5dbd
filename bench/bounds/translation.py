"""Operations of torch as the layers that bounds pass through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.bounds.affine import Affine, Convolution, Dense, Scale, Spread
from bench.bounds.layers import Layer, MaxPool, Rectifier
from bench.bounds.pooling import places
from bench.bounds.tracing import Operation

Translated = Layer | None


def layers(operations: list[Operation]) -> list[Layer]:
    """The layers of a chain; a max-pool stands before the ReLU that it follows, which changes nothing in what they do.

    Raises:
        UserError: an operation is not supported.
    """
    result: list[Layer] = []
    for operation in operations:
        layer = _layer(operation)
        if layer is None:
            continue
        if isinstance(layer, MaxPool) and result and isinstance(result[-1], Rectifier):
            result[-1:] = [layer, Rectifier(layer.outputs)]
        else:
            result.append(layer)
    return result


def _layer(operation: Operation) -> Translated:
    if operation.target in _UNCHANGED:
        return None
    make = _MADE.get(operation.target)
    if make is None:
        raise operation.refuse()
    return make(operation)


_UNCHANGED = ("clone", "detach", "alias", "lift_fresh_copy", "_to_copy")
"""Operations that leave every value as it is; a conversion rounds, and the exact function is what bounds are of."""


def _exact(value: Any) -> Tensor:
    """A tensor or a number in float64, which holds float32 without rounding."""
    return torch.as_tensor(value).detach().to("cpu", torch.float64)


def _others(operation: Operation, count: int) -> Iterator[Any]:
    """The first `count` arguments of an operation, None for those left out."""
    yield from (operation.arguments + (None,) * count)[:count]


def _dense(operation: Operation, weight: Any, bias: Any) -> Dense:
    matrix = _exact(weight)
    offset = torch.zeros(len(matrix), dtype=torch.float64) if bias is None else _exact(bias)
    if matrix.dim() != 2 or offset.numel() not in (1, len(matrix)):
        raise operation.refuse()
    return Dense(matrix, offset.flatten().expand(len(matrix)), operation.inputs, operation.outputs)


def _addmm(operation: Operation) -> Dense:
    bias, _, weight = _others(operation, 3)
    if operation.place != 1:
        raise operation.refuse()
    return _dense(operation, weight.T, bias)


def _mm(operation: Operation) -> Dense:
    _, weight = _others(operation, 2)
    if operation.place != 0:
        raise operation.refuse()
    return _dense(operation, weight.T, None)


def _convolution(operation: Operation) -> Convolution:
    _, weight, bias, stride, padding, dilation, transposed, _, groups = _others(operation, 9)
    if operation.place != 0 or transposed or weight.dim() != 4:
        raise operation.refuse()
    offset = torch.zeros(len(weight), dtype=torch.float64) if bias is None else _exact(bias)
    axes = (tuple(stride), tuple(padding), tuple(dilation))
    return Convolution(_exact(weight), offset, operation.inputs, operation.outputs, *axes, groups)


def _batch_norm(operation: Operation) -> Scale:
    """Batch normalisation by its stored mean and variance; the kinds of torch give them in one order."""
    _, weight, bias, mean, variance, *rest = operation.arguments
    training = rest[0] if operation.target in ("native_batch_norm", "cudnn_batch_norm") else False
    if operation.place != 0 or training or mean is None or variance is None:
        raise operation.refuse("takes the statistics of the batch, which no bound of one image holds for")
    scale = 1 / (_exact(variance) + rest[-1]).sqrt()
    scale = scale if weight is None else scale * _exact(weight)
    shift = -_exact(mean) * scale
    shift = shift if bias is None else shift + _exact(bias)
    sides = [1] * (len(operation.inputs) - 1)
    return Scale(scale.view(-1, *sides), shift.view(-1, *sides), operation.inputs, operation.outputs)


def _scaled(scale: Any, shift: Any, operation: Operation) -> Scale:
    """scale * x + shift, of numbers or of tensors that are the same for every image."""
    parts = list[Tensor]()
    for part in map(_exact, (scale, shift)):
        same = part.squeeze(0) if part.dim() == len(operation.inputs) + 1 and part.shape[0] == 1 else part
        if same.dim() > len(operation.inputs) or operation.inputs != operation.outputs:
            raise operation.refuse("changes the shape of its input")
        parts.append(same)
    return Scale(parts[0], parts[1], operation.inputs, operation.outputs)


def _sum(operation: Operation) -> Scale:
    return _scaled(1.0, operation.arguments[1 - operation.place], operation)


def _difference(operation: Operation) -> Scale:
    other = operation.arguments[1 - operation.place]
    reverse = (operation.place == 1) != (operation.target == "rsub")
    return _scaled(-1.0, other, operation) if reverse else _scaled(1.0, -_exact(other), operation)


def _product(operation: Operation) -> Scale:
    return _scaled(operation.arguments[1 - operation.place], 0.0, operation)


def _quotient(operation: Operation) -> Scale:
    if operation.place != 0:
        raise operation.refuse()
    return _scaled(1 / _exact(operation.arguments[1]), 0.0, operation)


def _reshaped(operation: Operation) -> Spread:
    shape = operation.outputs
    return Spread(lambda x: x.reshape(len(x), *shape), operation.inputs, shape)


def _permuted(operation: Operation) -> Spread:
    axes = [axis % (len(operation.inputs) + 1) for axis in operation.arguments[1]]
    if axes[0] != 0:
        raise operation.refuse("mixes the images of a batch")
    return Spread(lambda x: x.permute(axes), operation.inputs, operation.outputs)


def _mean(operation: Operation) -> Spread:
    axes = [axis % (len(operation.inputs) + 1) for axis in operation.arguments[1] or [0]]
    if 0 in axes:
        raise operation.refuse("mixes the images of a batch")
    shape = operation.outputs
    action: Callable[[Tensor], Tensor] = lambda x: x.mean(axes).reshape(len(x), *shape)  # noqa: E731
    return Spread(action, operation.inputs, shape, mixes=True)


def _average_pool(operation: Operation) -> Spread:
    _, kernel, stride, padding, ceil, counts, divisor = _others(operation, 7)
    if len(operation.inputs) != 3 or (divisor is not None and divisor <= 0):
        raise operation.refuse()
    how = (kernel, stride or None, padding or 0, bool(ceil), counts is not False, divisor)
    return Spread(lambda x: F.avg_pool2d(x, *how), operation.inputs, operation.outputs, mixes=True)


def _adaptive_average_pool(operation: Operation) -> Spread:
    size = operation.arguments[1]
    return Spread(lambda x: F.adaptive_avg_pool2d(x, size), operation.inputs, operation.outputs, mixes=True)


def _padded(operation: Operation) -> Affine:
    _, sides, value = _others(operation, 3)
    if value:
        raise operation.refuse("pads with other values than 0")
    return Spread(lambda x: F.pad(x, sides), operation.inputs, operation.outputs)


def _max_pool(operation: Operation) -> MaxPool:
    _, kernel, stride, padding, dilation, *_ = _others(operation, 6)
    if len(operation.inputs) != 3 or any(step != 1 for step in dilation or ()):
        raise operation.refuse()
    sizes = [side * 2 if len(side) == 1 else side for side in map(list, (kernel, stride or kernel, padding or [0]))]
    where = places(operation.inputs[1:], *sizes)
    if tuple(where.shape[1:]) != operation.outputs[1:]:
        raise operation.refuse("has ceil_mode, which is not supported")
    return MaxPool(where, operation.inputs, operation.outputs)


def _rectifier(operation: Operation) -> Rectifier:
    if math.prod(operation.inputs) == 0:
        raise operation.refuse("is empty")
    return Rectifier(operation.inputs)


_MADE: dict[str, Callable[[Operation], Layer]] = {
    "addmm": _addmm,
    "mm": _mm,
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "add": _sum,
    "sub": _difference,
    "rsub": _difference,
    "mul": _product,
    "div": _quotient,
    "neg": lambda operation: _scaled(-1.0, 0.0, operation),
    "view": _reshaped,
    "_unsafe_view": _reshaped,
    "reshape": _reshaped,
    "unsqueeze": _reshaped,
    "squeeze": _reshaped,
    "permute": _permuted,
    "mean": _mean,
    "avg_pool2d": _average_pool,
    "_adaptive_avg_pool2d": _adaptive_average_pool,
    "constant_pad_nd": _padded,
    "max_pool2d_with_indices": _max_pool,
    "relu": _rectifier,
}
"""The operations that are supported, and what each becomes."""
