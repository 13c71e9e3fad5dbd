"""Steps (rounding, signs, casts, comparisons, ...) as the lines that they follow: rules for `BackwardMode`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bench.ops.stand_ins.mode import BackwardMode, Operation, replaced, stand_for, stand_in_of, tracked

_PERIODS = 10 * math.pi
# Where a sigmoid is this far out its gradient is below 1e-8, and is lost in that of single pixels that are not.
_ENDS = 18.0


def straight(mode: BackwardMode, call: Operation) -> Any:
    """A step that follows the identity."""
    first = call.args[0] if call.args else None
    return replaced(call, first) if tracked(first) and "out" not in call.kwargs else NotImplemented


def clamped(mode: BackwardMode, call: Operation) -> Any:
    """Both sides bounded: the identity. With one bound it may be a rectifier, whose gradient is right."""
    both = call.argument(1, "min") is not None and call.argument(2, "max") is not None
    return straight(mode, call) if both else NotImplemented


def flat(mode: BackwardMode, call: Operation) -> Any:
    """A saw's teeth, flat on average: x - x % q is a staircase, which rises with x."""
    return replaced(call, None) if tracked(call.args[0]) else NotImplemented


def waved(mode: BackwardMode, call: Operation) -> Any:
    """A wave of many periods over the images is flat on average, like a saw."""
    first = call.args[0]
    return flat(mode, call) if tracked(first) and float(first.detach().abs().amax()) > _PERIODS else NotImplemented


def saturated(mode: BackwardMode, call: Operation) -> Any:
    """A sigmoid, hyperbolic tangent or softmax that is nearly everywhere at its ends is a step."""
    first = call.args[0]
    if not tracked(first):
        return NotImplemented
    z = first.detach()
    dim = call.argument(1, "dim") if call.name == "softmax" else None
    gap = z.abs() if dim is None else z.amax(dim) - z.kthvalue(max(z.shape[dim] - 1, 1), dim).values
    if float((gap > _ENDS).float().mean()) <= 0.5:
        return NotImplemented
    return replaced(call, first / gap.mean())


def quotient(mode: BackwardMode, call: Operation) -> Any:
    """Division that is rounded."""
    if call.name in ("div", "divide") and not call.kwargs.get("rounding_mode"):
        return NotImplemented
    a, b = call.args[0], call.argument(1, "other")
    if not (tracked(a) or tracked(b)):
        return NotImplemented
    a, b = (b, a) if call.name == "rfloordiv" else (a, b)
    value = call.func(*(_held(part) for part in call.args), **call.kwargs)
    return stand_for(value, torch.true_divide(a, b)) if not call.in_place else NotImplemented


def _held(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def cast(mode: BackwardMode, call: Operation) -> Any:
    """Real numbers made whole."""
    first = call.args[0]
    if not tracked(first):
        return NotImplemented
    result = call()
    whole = isinstance(result, Tensor) and not result.is_floating_point() and not result.is_complex()
    return stand_for(result, first) if whole else result


_SIGNS = {"gt": 1, "ge": 1, "greater": 1, "greater_equal": 1, "eq": 1}


def compared(mode: BackwardMode, call: Operation) -> Any:
    """x > t follows x - t; x == max(x), the one-hot vector of the largest, follows x - max(x)."""
    a, b = call.args[0], call.argument(1, "other")
    if not (tracked(a) or tracked(b)) or call.in_place:
        return NotImplemented
    result = call()
    return stand_for(result, (a - b) * _SIGNS.get(call.name, -1)) if isinstance(result, Tensor) else result


def logical(mode: BackwardMode, call: Operation) -> Any:
    """Logic on zeros and ones, and bits masked out of whole numbers; here the arguments are stand-ins already."""
    a, b = call.args[0], call.argument(1, "other")
    if not (tracked(a) or tracked(b)):
        return NotImplemented
    if call.name in ("bitwise_not", "logical_not", "invert"):
        return 1 - a
    if isinstance(b, int) and not isinstance(b, bool):
        return a
    a, b = (part.to(torch.get_default_dtype()) if isinstance(part, Tensor) else part for part in (a, b))
    if call.name.endswith("and"):
        return a * b
    return a + b - a * b * (2 if call.name.endswith("xor") else 1)


def shifted(mode: BackwardMode, call: Operation) -> Any:
    """Bits moved left or right: a product with a power of 2."""
    a, b = call.args[0], call.argument(1, "other")
    if not tracked(a):
        return NotImplemented
    factor = 2.0**b
    return a / factor if "right" in call.name or call.name == "rshift" else a * factor


def where(mode: BackwardMode, call: Operation) -> Any:
    """A choice between two values by a condition that was made of reals."""
    condition = stand_in_of(call.args[0])
    if condition is None or len(call.args) < 3:
        return NotImplemented
    _, a, b = call.args
    rise = (torch.as_tensor(a) - torch.as_tensor(b)).detach().to(condition.device)
    result = mode.run(Operation(torch.where, [call.args[0].detach(), a, b], {}))
    return stand_for(result, result + rise * (condition - condition.detach()))


def bucket(mode: BackwardMode, call: Operation) -> Any:
    """The number of the interval that a real lies in follows the line from the first to the last boundary."""
    x, edges = call.args[:2] if call.name == "bucketize" else call.args[1::-1]
    if not tracked(x) or not isinstance(edges, Tensor) or edges.numel() < 1:
        return NotImplemented
    width = (edges.max() - edges.min()).clamp_min(torch.finfo(x.dtype).tiny)
    return stand_for(call(), x * (max(edges.numel() - 1, 1) / width if edges.numel() > 1 else 1.0))
