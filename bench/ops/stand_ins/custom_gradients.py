"""Gradients that were written by hand, set aside: custom backward passes and hooks, and blocks without gradients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, _SingleLevelFunction

from bench.ops.stand_ins.mode import stand_for, stand_in_of, through, tracked

_OWN = ("torch.", "bench.")


class _Context(FunctionCtx):
    """What a custom function's `forward` may note; nothing of it is used."""

    def __init__(self, count: int) -> None:
        self.needs_input_grad = (True,) * count
        self.saved_tensors = ()


@contextmanager
def forwards_differentiated() -> Iterator[None]:
    """Inside, the gradient of a custom `autograd.Function` is that of its forward pass, whatever its backward says.

    Inference mode is left off, too. Both are set for the process: every call of a custom function, however it was
    bound, goes through a method that is looked up in this class.
    """
    inference = torch._C._InferenceMode
    _SingleLevelFunction.apply = classmethod(_applied)  # type: ignore[attr-defined]
    torch._C._InferenceMode = lambda _mode: inference(False)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        del _SingleLevelFunction.apply  # type: ignore[attr-defined]
        torch._C._InferenceMode = inference  # type: ignore[misc]


def _applied(kind: Any, *args: Any, **kwargs: Any) -> Any:
    def as_written() -> Any:
        return super(_SingleLevelFunction, kind).apply(*args, **kwargs)

    images = [arg for arg in args if tracked(arg) or stand_in_of(arg) is not None]
    if kind.__module__.startswith(_OWN) or not images or not torch.is_grad_enabled():
        return as_written()
    split = kind.setup_context is not torch.autograd.Function.setup_context
    try:
        result = kind.forward(*args) if split else kind.forward(_Context(len(args)), *args)
    except (RuntimeError, AttributeError, TypeError):  # it needs what only torch's own call gives
        return as_written()
    return followed(result, images[0])


def followed(result: Any, image: Tensor) -> Any:
    """An output without a gradient, of the shape of what went in, with the gradient of what went in."""
    lost = isinstance(result, Tensor) and not result.requires_grad and stand_in_of(result) is None
    real = stand_in_of(image)
    source = image if real is None else real
    return stand_for(result, source) if lost and result.shape == source.shape else result


class Unhooked:
    """A module's own backward hooks taken off, and its parts that lose or spoil the gradient of an image followed.

    `spoilt` are the parts whose gradient is replaced by that of the identity although they have one; see `find_spoilt`.
    """

    def __init__(self, model: object) -> None:
        self.modules = list(model.modules()) if isinstance(model, nn.Module) else []
        self.spoilt: set[nn.Module] = set()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, that holds."""
        kept = [(module, module._backward_hooks, module._backward_pre_hooks) for module in self.modules]
        handles = []
        for module in self.modules:
            module._backward_hooks, module._backward_pre_hooks = OrderedDict(), OrderedDict()
            handles.append(module.register_forward_hook(self._follow))
        try:
            with forwards_differentiated():
                yield
        finally:
            for handle in handles:
                handle.remove()
            for module, hooks, before in kept:
                module._backward_hooks, module._backward_pre_hooks = hooks, before

    def _follow(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        with torch._C.DisableTorchFunction():
            images = [part for part in inputs if tracked(part) or stand_in_of(part) is not None]
            if not images:
                return None
            if module in self.spoilt and isinstance(output, Tensor) and output.shape == images[0].shape:
                return through(output, images[0])
            return followed(output, images[0])

    def find_spoilt(self, once: Callable[[], Tensor], shape: torch.Size) -> None:
        """Look for parts that return images much like those they are given, but pass on a gradient that is not.

        That is zero, not finite, 10,000 times larger or smaller, or in no relation to the one that comes in.

        Args:
            once: makes a forward pass inside the mode, and returns values to differentiate.
            shape: of an image, (C, H, W).
        """
        seen: list[tuple[nn.Module, Tensor, Tensor]] = []

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            with torch._C.DisableTorchFunction():
                both = inputs and tracked(inputs[0]) and tracked(output)
                if both and inputs[0].shape[1:] == shape == output.shape[1:]:
                    seen.append((module, inputs[0], output))

        handles = [module.register_forward_hook(note) for module in self.modules]
        try:
            values = once()
        finally:
            for handle in handles:
                handle.remove()
        for module, before, after in seen:
            pair = torch.autograd.grad(values.sum(), [after, before], retain_graph=True, allow_unused=True)
            if _alike(before.detach(), after.detach()) and _spoils(*pair):
                self.spoilt.add(module)


def _alike(before: Tensor, after: Tensor) -> bool:
    """Whether images come out much as they went in."""
    x, y = (part.flatten(1) - part.flatten(1).mean(1, keepdim=True) for part in (before, after))
    return float(torch.cosine_similarity(x, y).median()) > 0.5


def _spoils(after: Tensor | None, before: Tensor | None) -> bool:
    """Whether the gradient at a part's input has lost what the gradient at its output says."""
    if after is None:
        return False
    if before is None or not bool(before.isfinite().all()):
        return True
    x, y = before.double().flatten(1), after.double().flatten(1)
    x, y = x[y.abs().amax(1) > 0], y[y.abs().amax(1) > 0]
    if not len(y):
        return False
    ratio = float((x.norm(dim=1) / y.norm(dim=1)).median())
    return not 1e-4 < ratio < 1e4 or float(torch.cosine_similarity(x, y).median()) < 0.05
