"""Stand-ins for operations whose gradient is zero, absent or hidden (BPDA; Athalye et al. 2018).

Steps (rounding, signs, casts, comparisons, look-ups) get the slope of the line they follow. What only hides a gradient
(detaching, blocks without one, hooks that change it) is undone, so that what is left is the derivative of the values.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from bench.ops.backward_mode import (
    BackwardMode,
    Operation,
    Rule,
    replaced,
    stand_for,
    stand_in_of,
    through,
    tracked,
)

_CHOICE = "_bench_choice"
_PERIODS = 10 * math.pi


def _straight(mode: BackwardMode, call: Operation) -> Any:
    """A step that follows the identity."""
    first = call.args[0] if call.args else None
    return replaced(call, first) if tracked(first) and "out" not in call.kwargs else NotImplemented


def _clamped(mode: BackwardMode, call: Operation) -> Any:
    """Both sides bounded: the identity. With one bound it may be a rectifier, whose gradient is right."""
    both = call.argument(1, "min") is not None and call.argument(2, "max") is not None
    return _straight(mode, call) if both else NotImplemented


def _flat(mode: BackwardMode, call: Operation) -> Any:
    """A saw's teeth, flat on average: x - x % q is a staircase, which rises with x."""
    return replaced(call, None) if tracked(call.args[0]) else NotImplemented


def _waved(mode: BackwardMode, call: Operation) -> Any:
    """A wave of many periods over the images is flat on average, like a saw."""
    first = call.args[0]
    return _flat(mode, call) if tracked(first) and float(first.detach().abs().amax()) > _PERIODS else NotImplemented


def _quotient(mode: BackwardMode, call: Operation) -> Any:
    """Division that is rounded."""
    if call.name == "div" and not call.kwargs.get("rounding_mode"):
        return NotImplemented
    a, b = call.args[0], call.argument(1, "other")
    if not (tracked(a) or tracked(b)):
        return NotImplemented
    a, b = (b, a) if call.name == "rfloordiv" else (a, b)
    value = call.func(*(_held(part) for part in call.args), **call.kwargs)
    return stand_for(value, torch.true_divide(a, b)) if not call.in_place else NotImplemented


def _held(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _cast(mode: BackwardMode, call: Operation) -> Any:
    """Real numbers made whole."""
    first = call.args[0]
    if not tracked(first):
        return NotImplemented
    result = call()
    whole = isinstance(result, Tensor) and not result.is_floating_point() and not result.is_complex()
    return stand_for(result, first) if whole else result


_SIGNS = {"gt": 1, "ge": 1, "greater": 1, "greater_equal": 1, "eq": 1}


def _compared(mode: BackwardMode, call: Operation) -> Any:
    """x > t follows x - t; x == max(x), the one-hot vector of the largest, follows x - max(x)."""
    a, b = call.args[0], call.argument(1, "other")
    if not (tracked(a) or tracked(b)) or call.in_place:
        return NotImplemented
    result = call()
    return stand_for(result, (a - b) * _SIGNS.get(call.name, -1)) if isinstance(result, Tensor) else result


def _logical(mode: BackwardMode, call: Operation) -> Any:
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


def _shifted(mode: BackwardMode, call: Operation) -> Any:
    a, b = call.args[0], call.argument(1, "other")
    if not tracked(a):
        return NotImplemented
    factor = 2.0**b
    return a / factor if "right" in call.name or call.name == "rshift" else a * factor


def _where(mode: BackwardMode, call: Operation) -> Any:
    """A choice between two values by a condition that was made of reals."""
    condition = stand_in_of(call.args[0])
    if condition is None or len(call.args) < 3:
        return NotImplemented
    _, a, b = call.args
    rise = (torch.as_tensor(a) - torch.as_tensor(b)).detach().to(condition.device)
    result = mode.run(Operation(torch.where, [call.args[0].detach(), a, b], {}))
    return stand_for(result, result + rise * (condition - condition.detach()))


def _bucket(mode: BackwardMode, call: Operation) -> Any:
    """The number of the interval that a real lies in follows the line from the first to the last boundary."""
    x, edges = call.args[:2] if call.name == "bucketize" else call.args[1::-1]
    if not tracked(x) or not isinstance(edges, Tensor) or edges.numel() < 1:
        return NotImplemented
    width = (edges.max() - edges.min()).clamp_min(torch.finfo(x.dtype).tiny)
    return stand_for(call(), x * (max(edges.numel() - 1, 1) / width if edges.numel() > 1 else 1.0))


def _chosen(mode: BackwardMode, call: Operation) -> Any:
    """The place of the largest or smallest: kept in mind for the one-hot vector or the look-up that is made of it."""
    x, dim = call.args[0], call.argument(1, "dim")
    if not tracked(x) or not isinstance(dim, int) or isinstance(dim, bool):
        return NotImplemented
    result = call()
    place = result if isinstance(result, Tensor) else result[1]
    scores = x.movedim(dim, -1) * (-1 if "min" in call.name else 1)
    # What raises all scores alike changes no choice.
    setattr(place, _CHOICE, scores - scores.mean(-1, keepdim=True))
    return result


def _same_places(mode: BackwardMode, call: Operation) -> Any:
    """Another shape of the same whole numbers."""
    choice = getattr(call.args[0], _CHOICE, None) if call.args else None
    if choice is None:
        return NotImplemented
    result = call()
    if isinstance(result, Tensor) and result.numel() == call.args[0].numel():
        setattr(result, _CHOICE, choice)
    return result


def _one_hot(mode: BackwardMode, call: Operation) -> Any:
    place = call.args[0]
    result = call()
    return _looked_up(place, result, torch.eye(result.shape[-1], device=result.device))


def _looked_up(place: Tensor, result: Tensor, table: Tensor) -> Any:
    """Rows of a table (K, ...) at places (...): by the scores they were chosen by, or the slope from row to row."""
    choice, real, rows = getattr(place, _CHOICE, None), stand_in_of(place), table.shape[0]
    if choice is not None and choice.shape[-1] == rows:
        hot = through(F.one_hot(place.detach(), rows).to(choice), choice.reshape(*place.shape, rows))
        return stand_for(result, torch.tensordot(hot, table.to(hot), dims=1))
    if real is None:
        return NotImplemented if choice is None else result
    index, table = place.detach().long(), table.to(real)
    after, before = (index + 1).clamp(max=rows - 1), (index - 1).clamp(min=0)
    gap = (after - before).clamp(min=1).to(real)
    move = ((real - real.detach()) / gap).reshape(*place.shape, *[1] * (table.dim() - 1))
    return stand_for(result, table[index] + (table[after] - table[before]) * move)


def _row(mode: BackwardMode, call: Operation) -> Any:
    """`table[places]`, `F.embedding(places, table)`, `table.index_select(0, places)`."""
    table, place = call.args[:2] if call.name != "embedding" else call.args[1::-1]
    if call.name == "index_select":
        if call.argument(1, "dim") != 0:
            return NotImplemented
        place = call.argument(2, "index")
    plain = isinstance(table, Tensor) and isinstance(place, Tensor) and table.is_floating_point()
    if not plain or place.is_floating_point() or place.dtype == torch.bool or place.dtype == torch.uint8:
        return _same_places(mode, call)
    if stand_in_of(place) is None and getattr(place, _CHOICE, None) is None:
        return NotImplemented
    return _looked_up(place, call(), table)


def _scattered(mode: BackwardMode, call: Operation) -> Any:
    """A one-hot vector made by writing to the places of the largest."""
    dim, place = call.argument(1, "dim"), call.argument(2, "index")
    value = call.argument(3, "value", call.kwargs.get("src"))
    choice = getattr(place, _CHOICE, None)
    if choice is None or choice.numel() != call.args[0].numel():
        return NotImplemented
    scores = choice.movedim(-1, dim).reshape(call.args[0].shape)
    return replaced(call, scores * value if isinstance(value, int | float) else scores)


def _revealed(mode: BackwardMode, call: Operation) -> Any:
    """A detached tensor is the tensor itself."""
    first = call.args[0]
    if stand_in_of(first) is not None or getattr(first, _CHOICE, None) is not None:
        return first
    return first.view_as(first) if tracked(first) else NotImplemented


def _ignored(mode: BackwardMode, call: Operation) -> Any:
    """Switching gradients off."""
    return None


def _unhooked(mode: BackwardMode, call: Operation) -> Any:
    return RemovableHandle(OrderedDict()) if tracked(call.args[0]) else NotImplemented


def _still_wanted(mode: BackwardMode, call: Operation) -> Any:
    return (call.args[0] if call.name == "requires_grad" else None) if tracked(call.args[0]) else NotImplemented


def _kept(mode: BackwardMode, call: Operation) -> Any:
    """A gradient that the model takes itself must leave the graph to ours."""
    return call.func(*call.args, **{**call.kwargs, "retain_graph": True})


_STEPS = "round floor ceil trunc fix sign sgn heaviside hardtanh bernoulli apply fake_quantize_per_tensor_affine"
_CASTS = "int long short byte char bool to type type_as quantize_per_tensor"
_COMPARISONS = "gt ge lt le eq ne greater greater_equal less less_equal not_equal"
_LOGIC = (
    "and or xor invert bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor logical_not"
)
_SHIFTS = "rshift lshift bitwise_right_shift bitwise_left_shift"
_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_STEPS.split(), _straight),
    **dict.fromkeys(["clamp", "clip"], _clamped),
    **dict.fromkeys(["remainder", "fmod", "mod", "frac"], _flat),
    **dict.fromkeys(["sin", "cos"], _waved),
    **dict.fromkeys(["floor_divide", "floordiv", "rfloordiv", "div", "divide"], _quotient),
    **dict.fromkeys(_CASTS.split(), _cast),
    **dict.fromkeys(_COMPARISONS.split(), _compared),
    **dict.fromkeys(_LOGIC.split(), _logical),
    **dict.fromkeys(_SHIFTS.split(), _shifted),
    **dict.fromkeys(["bucketize", "searchsorted"], _bucket),
    **dict.fromkeys(["argmax", "argmin", "max", "min", "topk"], _chosen),
    **dict.fromkeys(["unsqueeze", "squeeze", "view", "reshape", "clone", "contiguous"], _same_places),
    **dict.fromkeys(["getitem", "embedding", "index_select"], _row),
    **dict.fromkeys(["detach", "data.get"], _revealed),
    **dict.fromkeys(["grad", "backward"], _kept),
    **dict.fromkeys(["requires_grad", "requires_grad.set"], _still_wanted),
    "one_hot": _one_hot,
    "where": _where,
    "scatter": _scattered,
    "set_grad_enabled": _ignored,
    "register_hook": _unhooked,
}


class StandIns(BackwardMode):
    """The stand-ins of this module, for a model that runs inside the mode.

    An image that leaves torch for numpy is followed by its shape: the array of that shape that comes back is taken for
    it.
    """

    def __init__(self) -> None:
        super().__init__({**_RULES, "numpy": self._departing, "array": self._departing})
        self.departed: list[Tensor] = []

    def run(self, operation: Operation) -> Any:
        """See `BackwardMode`."""
        if not self.departed:
            return super().run(operation)
        leaves, spec = pytree.tree_flatten((tuple(operation.args), dict(operation.kwargs)))
        args, kwargs = pytree.tree_unflatten(self._adopted(leaves), spec)
        result = super().run(Operation(operation.func, args, kwargs))
        if operation.name in ("stack", "cat", "tensor", "as_tensor"):
            return self._adopted([result])[0]
        for part in pytree.tree_leaves(result):
            if isinstance(part, Tensor):
                part._bench_seen = True  # type: ignore[attr-defined]
        return result

    def _departing(self, mode: BackwardMode, call: Operation) -> Any:
        first = call.args[0]
        source = first if tracked(first) else stand_in_of(first)
        if source is None:
            return NotImplemented
        self.departed.append(source)
        return call.on(first.detach())

    def _adopted(self, values: list[Any]) -> list[Any]:
        """Tensors that torch did not make here, with the gradients of the images that left in their shapes.

        As many as have left are taken in the order in which they left; else each for the last.
        """
        fresh = [value for value in values if _arrived(value)]
        result = list(values)
        for place, value in enumerate(values):
            left = [image for image in self.departed if isinstance(value, Tensor) and image.shape == value.shape]
            if not left or not _arrived(value):
                continue
            alike = [other for other in fresh if other.shape == value.shape]
            turn = next(at for at, other in enumerate(alike) if other is value)
            source = left[turn] if len(alike) == len(left) else left[-1]
            result[place] = stand_for(value, source * _slope(source.detach(), value))
        return result


def _arrived(value: Any) -> bool:
    """Whether a value may be an image that comes from elsewhere: no weight, and nothing that torch made meanwhile."""
    plain = isinstance(value, Tensor) and not value.requires_grad and not isinstance(value, nn.Parameter)
    return plain and stand_in_of(value) is None and not hasattr(value, "_bench_seen")


def _slope(before: Tensor, after: Tensor) -> float:
    """By how much an image changes in scale on its way, as from [0, 1] to 256 levels: a line fitted to its pixels."""
    x, y = before.double().flatten(), after.double().flatten()
    x = x - x.mean()
    slope = float((x * (y - y.mean())).sum() / x.square().sum().clamp_min(torch.finfo(x.dtype).tiny))
    return slope if 0 < slope < float("inf") else 1.0
