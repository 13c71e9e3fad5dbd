"""A model in evaluation mode with frozen weights, as attacks want it; its own state afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Evaluation mode and frozen weights inside the block; every module's mode and every weight restored after.

    Frozen, because an attack needs no weight gradient: autograd then keeps less, and autocast does not cache
    half-precision weights cut off from theirs. A model that is no module is left as it is.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    weights = [weight for weight in model.parameters() if weight.requires_grad] if modules else []
    try:
        if modules:
            model.eval()
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for weight in weights:
            weight.requires_grad_(True)
