"""A model with its own values and a softened backward pass: the derivative of ReLU becomes a sigmoid.

A ReLU passes a gradient on only where its input is positive, so an attack does not see what units that are just off
would do. Here a unit at pre-activation a passes on the share sigmoid(a / b) instead, where b is a share of the standard
deviation of that layer's pre-activations of that image: the derivative of a smooth activation at the values of the
exact one. An attack anneals the share to 0, where the gradient is exact again.

After smooth adversarial training (Xie et al. 2020, arXiv:2006.14536), which softens the backward pass while a defense
is trained, and LinBP (Guo et al. 2020, arXiv:2012.03528), which makes it linear for transfer. Values keep their bits.

What stands at other activations:
- ReLU6, leaky and parametric ReLU: each kink likewise;
- `clamp(min=0)` without an upper bound: a ReLU;
- ELU, GELU, SiLU, softplus, tanh: smooth already, left as they are;
- max-pooling: left as it is (no gain was seen).

What does not pass torch's Python interface (compiled and scripted code, custom kernels) is out of reach and stays
exact; `softens` tells what is reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bench.core.types import Classifier
from bench.ops.norms import per_example

_Call = Callable[..., Any]
_STEEPEST = 1e30


def width(a: Tensor, share: float) -> Tensor:
    """The width b (N,) of the sigmoid that stands for a step at pre-activations a (N, ...); 0 where all are equal."""
    flat = a.flatten(1)
    mean = flat.sum(1) / flat.shape[1]
    square = torch.linalg.vector_norm(flat, dim=1).square() / flat.shape[1]
    spread: Tensor = (square - mean.square()).clamp_min(0).sqrt()
    return share * spread


def slope(a: Tensor, b: Tensor) -> Tensor:
    """The softened derivative (N, ...) of a ReLU at pre-activations a (N, ...): sigmoid(a / b), a step where b is 0."""
    # In place, and without a division for each element: this is all that softening costs.
    passed = a * per_example(b.reciprocal().clamp_max(_STEEPEST), a)
    return passed.sigmoid_()


class _Kinked(torch.autograd.Function):
    """What an activation gives, with a softened derivative."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, exact: _Call, share: float, low: float, top: float | None) -> Any:
        ctx.save_for_backward(a)
        ctx.shape = (share, low, top)
        return exact(a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (a,), (share, low, top) = ctx.saved_tensors, ctx.shape
        b = width(a, share)
        passed = slope(a, b)
        if top is not None:
            passed.mul_(slope(top - a, b))
        if low:
            passed.mul_(1 - low).add_(low)
        return passed.mul_(gradients[0]), None, None, None, None


_Shape = Callable[[Sequence[Any], Mapping[str, Any]], "tuple[float, float | None] | None"]
"""The derivative below the kink, and the upper kink if there is one; None where this call is no such activation."""


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _relu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    return 0.0, None


def _relu6(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    return 0.0, 6.0


def _leaky(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    return _argument(args, kwargs, 1, "negative_slope", 0.01), None


def _prelu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    weight = _argument(args, kwargs, 1, "weight", None)
    return (float(weight), None) if isinstance(weight, Tensor) and weight.numel() == 1 else None


def _hardtanh(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    low, high = (_argument(args, kwargs, *where) for where in ((1, "min_val", -1.0), (2, "max_val", 1.0)))
    return (0.0, float(high)) if low == 0 else None


def _clamped(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float | None] | None:
    low, high = (_argument(args, kwargs, *where, None) for where in ((1, "min"), (2, "max")))
    return (0.0, None) if high is None and isinstance(low, int | float) and low == 0 else None


_KINKS: Mapping[_Call, _Shape] = {
    **dict.fromkeys([torch.relu, torch.relu_, F.relu, F.relu_, Tensor.relu, Tensor.relu_], _relu),
    **dict.fromkeys([F.relu6], _relu6),
    **dict.fromkeys([F.leaky_relu, F.leaky_relu_], _leaky),
    **dict.fromkeys([F.prelu, torch.prelu, Tensor.prelu], _prelu),
    **dict.fromkeys([F.hardtanh, F.hardtanh_], _hardtanh),
    **dict.fromkeys([torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clip, Tensor.clip], _clamped),
    **dict.fromkeys([torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_], _clamped),
}


class Softened(TorchFunctionMode):
    """Inside, gradients through kinked activations are softened by `share`; `seen` counts the calls by name."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.seen: Counter[str] = Counter()

    def __torch_function__(
        self, func: _Call, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        shape_of = _KINKS.get(func)
        first = args[0] if args else kwargs.get("input")
        if shape_of is None or not isinstance(first, Tensor) or not (torch.is_grad_enabled() and first.requires_grad):
            return func(*args, **kwargs)
        shape = shape_of(args, kwargs)
        if shape is None or not first.is_floating_point() or first.dim() < 2:
            return func(*args, **kwargs)
        self.seen[func.__name__.rstrip("_")] += 1
        in_place = func.__name__.endswith("_") or _in_place(args, kwargs)

        def exact(a: Tensor) -> Tensor:
            # A copy where the call would write over the pre-activations, which the derivative needs.
            value: Tensor = func(a.clone() if in_place else a, *args[1:], **_without_input(args, kwargs))
            return value

        source = first.clone() if in_place else first
        result = _Kinked.apply(source, exact, self.share, *shape)  # type: ignore[no-untyped-call]
        if not in_place:
            return result
        first.copy_(result)
        return first


def _in_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return bool(kwargs.get("inplace", False)) or args[-1] is True


def _without_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    return kwargs if args else {name: value for name, value in kwargs.items() if name != "input"}


_EXACT_FROM = 0.7
"""The share of an attack's steps after which its backward passes are exact."""


def annealed(share: float, step: int, steps: int) -> float:
    """The share at a step of so many: it falls along a line to 0 at 70 % of them."""
    return share * max(0.0, 1 - step / (_EXACT_FROM * steps))


@contextmanager
def softened(share: float) -> Iterator[None]:
    """Inside, backward passes are softened by `share` of each layer's standard deviation; exact where it is 0."""
    if share <= 0:
        yield
        return
    with Softened(share):
        yield


def softens(model: Classifier, x: Tensor) -> str:
    """What a softened backward pass of a model reaches, on a few images x (n, C, H, W): "relu x 4"; "" for nothing."""
    mode = Softened(1.0)
    with torch.enable_grad(), mode:
        model(x.detach().clone().requires_grad_(True).clone())
    return ", ".join(f"{name} x {count}" for name, count in sorted(mode.seen.items()))
