"""Operations with their own values and another gradient, caught while a model runs.

`BackwardMode` is a mode of torch's function dispatch: rules say by an operation's name what stands in for its gradient.
Forward values keep their bits. What does not pass torch's Python interface is out of reach: compiled and scripted code,
custom kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

Rule = Callable[["BackwardMode", "Operation"], Any]
"""What an operation gives instead, or NotImplemented to leave it as it is."""

_ATTRIBUTE = "_bench_stand_in"


class Operation:
    """A call of a torch function: its plain name ("round" for `torch.round`, `Tensor.round` and `Tensor.round_`)."""

    def __init__(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.name, self.in_place = _named(func)

    def __call__(self) -> Any:
        """What torch gives."""
        return self.func(*self.args, **self.kwargs)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by place or name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def on(self, first: Tensor) -> Any:
        """What torch gives for another first argument."""
        return self.func(first, *self.args[1:], **self.kwargs)


def _named(func: Callable[..., Any]) -> tuple[str, bool]:
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        return f"{owner}.{name.strip('_')}", False
    if name.startswith("__"):
        return name.strip("_"), False
    return name.rstrip("_").lstrip("_"), name.endswith("_")


class _Through(torch.autograd.Function):
    """The value of one tensor, the gradient of another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, stand_in: Tensor) -> Tensor:
        ctx.kind = stand_in.dtype
        return value.clone()  # not a view, so that a model may write to it

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0].to(ctx.kind)


def through(value: Tensor, stand_in: Tensor) -> Tensor:
    """The bits of `value` with the gradient of `stand_in`, of the same or a smaller shape that spreads to it."""
    if stand_in.shape != value.shape:
        stand_in = stand_in.expand(value.shape)
    result: Tensor = _Through.apply(value.detach(), stand_in)  # type: ignore[no-untyped-call]
    return result


def tracked(value: object) -> bool:
    """Whether a value is a tensor that passes a gradient on to the image."""
    return isinstance(value, Tensor) and value.requires_grad and value.is_floating_point()


def stand_in_of(value: object) -> Tensor | None:
    """The real numbers that an integer or boolean tensor was made of, which have the gradient that it cannot have."""
    return getattr(value, _ATTRIBUTE, None)


def stand_for(value: Tensor, stand_in: Tensor) -> Tensor:
    """`value` with a gradient: real numbers get it at once, whole ones when they are made real again."""
    if value.is_floating_point():
        return through(value, stand_in)
    setattr(value, _ATTRIBUTE, through(value.to(stand_in.dtype), stand_in))
    return value


def replaced(operation: Operation, stand_in: Tensor | None) -> Any:
    """An operation's value with the gradient of its stand-in, or with none; in place where it works in place."""
    first = operation.args[0]
    if not operation.in_place:
        value = operation.on(first.detach()) if tracked(first) else operation()
        return value if stand_in is None else stand_for(value, stand_in)
    # The stand-in may be the tensor that is written to: what it was is kept, then the new values are copied in.
    kept = None if stand_in is None else stand_in.clone()
    value = operation.on(first.detach().clone())
    first.copy_(value if kept is None else through(value, kept))
    return first


class BackwardMode(TorchFunctionMode):
    """Applies rules to the operations of a model that runs inside it.

    Integers and booleans carry the reals they were made of along, through whatever is done to them, and give their
    gradient back where they become real again.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        return self.run(Operation(func, args, kwargs or {}))

    def run(self, operation: Operation) -> Any:
        """What an operation gives: by its rule, or as torch has it."""
        if not torch.is_grad_enabled():
            return operation()
        rule = self.rules.get(operation.name)
        result = NotImplemented if rule is None else rule(self, operation)
        return self._carried(operation) if result is NotImplemented else result

    def _carried(self, operation: Operation) -> Any:
        """As torch has it, with the gradient of the same operation on the stand-ins of its integers."""
        swapped = pytree.tree_map(_swap, (tuple(operation.args), dict(operation.kwargs)))
        leaves = zip(pytree.tree_leaves(swapped), pytree.tree_leaves((operation.args, operation.kwargs)), strict=False)
        if not any(ours is not theirs for ours, theirs in leaves):
            return operation()
        others = Operation(operation.func, *swapped)
        if operation.in_place and tracked(others.args[0]) and stand_in_of(operation.args[0]) is None:
            return self.run(others)
        result = operation()
        try:
            return _joined(result, self.run(others))
        except (RuntimeError, TypeError, ValueError, IndexError):  # it means nothing for reals: no gradient here
            return result


def _swap(value: Any) -> Any:
    stand_in = stand_in_of(value)
    return value if stand_in is None else stand_in


def _joined(result: Any, other: Any) -> Any:
    """What torch gave, with the gradients of what it gave for the stand-ins."""
    if isinstance(result, Tensor) and isinstance(other, Tensor):
        stand_in = other if tracked(other) else stand_in_of(other)
        fits = stand_in is not None and stand_in.shape == result.shape
        return stand_for(result, stand_in) if fits and stand_in is not None else result
    if isinstance(result, tuple | list) and isinstance(other, tuple | list) and len(result) == len(other):
        parts = [_joined(*pair) for pair in zip(result, other, strict=True)]
        return type(result)(parts)
    return result
