"""A model in evaluation mode with frozen weights, as attacks want it; its own state afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Every module's mode, every weight's gradient and whether it wants one are afterwards what they were before."""
    # A frozen TorchScript module has no mode.
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    weights = [(weight, weight.requires_grad, weight.grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, wanted, gradient in weights:
            weight.requires_grad_(wanted)
            weight.grad = gradient


def still(model: nn.Module) -> None:
    """No weight wants a gradient any more. One by one, for TorchScript knows no call for all."""
    for weight in model.parameters():
        weight.requires_grad_(False)


@contextmanager
def frozen(model: object) -> Iterator[None]:
    """Evaluation mode and frozen weights inside the block; every module's mode and every weight restored after.

    Frozen, because an attack needs no weight gradient: autograd then keeps less, and autocast does not cache
    half-precision weights cut off from theirs. A model that is no module is left as it is.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    with restored(model):
        model.eval()
        still(model)
        yield
