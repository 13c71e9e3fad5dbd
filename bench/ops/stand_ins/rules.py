"""Stand-ins for operations whose gradient is zero, absent or hidden (BPDA; Athalye et al. 2018).

Steps (rounding, signs, casts, comparisons, look-ups) get the slope of the line they follow. What only hides a gradient
(detaching, blocks without one, hooks that change it) is undone, so that what is left is the derivative of the values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from bench.ops.stand_ins import choices, steps
from bench.ops.stand_ins.mode import BackwardMode, Operation, Rule, stand_for, stand_in_of, tracked


def _revealed(mode: BackwardMode, call: Operation) -> Any:
    """A detached tensor is the tensor itself."""
    first = call.args[0]
    if stand_in_of(first) is not None or getattr(first, choices.CHOICE, None) is not None:
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
    **dict.fromkeys(_STEPS.split(), steps.straight),
    **dict.fromkeys(["clamp", "clip"], steps.clamped),
    **dict.fromkeys(["remainder", "fmod", "mod", "frac"], steps.flat),
    **dict.fromkeys(["sin", "cos"], steps.waved),
    **dict.fromkeys(["sigmoid", "tanh", "softmax"], steps.saturated),
    **dict.fromkeys(["floor_divide", "floordiv", "rfloordiv", "div", "divide"], steps.quotient),
    **dict.fromkeys(_CASTS.split(), steps.cast),
    **dict.fromkeys(_COMPARISONS.split(), steps.compared),
    **dict.fromkeys(_LOGIC.split(), steps.logical),
    **dict.fromkeys(_SHIFTS.split(), steps.shifted),
    **dict.fromkeys(["bucketize", "searchsorted"], steps.bucket),
    **dict.fromkeys(["argmax", "argmin", "max", "min", "topk"], choices.chosen),
    **dict.fromkeys(["unsqueeze", "squeeze", "view", "reshape", "clone", "contiguous"], choices.same_places),
    **dict.fromkeys(["getitem", "embedding", "index_select"], choices.row),
    **dict.fromkeys(["detach", "data.get"], _revealed),
    **dict.fromkeys(["grad", "backward"], _kept),
    **dict.fromkeys(["requires_grad", "requires_grad.set"], _still_wanted),
    "one_hot": choices.one_hot,
    "where": steps.where,
    "scatter": choices.scattered,
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
            left = [_laid_out(image, value) for image in self.departed] if _arrived(value) else []
            sources = [image for image in left if image is not None]
            if not sources:
                continue
            alike = [other for other in fresh if other.shape == value.shape]
            turn = next(at for at, other in enumerate(alike) if other is value)
            source = sources[turn] if len(alike) == len(sources) else sources[-1]
            result[place] = stand_for(value, source * _slope(source.detach(), value))
        return result


def _laid_out(image: Tensor, value: Tensor) -> Tensor | None:
    """An image in the shape of a value: with axes of one entry more or less, or with its channels elsewhere."""
    if image.squeeze().shape == value.squeeze().shape:
        return image.reshape(value.shape)
    moved = [image.movedim(-1, -3), image.movedim(-3, -1)] if image.dim() > 2 else []
    return next((other for other in moved if other.shape == value.shape), None)


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
