"""How a model's weights lie in memory while it is attacked: the same numbers, read faster.

Logits may differ in the last bit, so whatever judges must lay the model out as whatever attacked it: both go through
`suited`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench.core.types import Classifier
from bench.ops import passes

_AGREES, _ROUNDING = 1e-4, 1e-2


@contextmanager
def suited(model: Classifier, images: Tensor) -> Iterator[None]:
    """Lay the weights of a prepared model out as its kernels like them; inside the block, and the same ones after it.

    `images` (n, C, H, W) are a few that it must classify as before: a module may depend on the usual layout.
    """
    module = model if isinstance(model, nn.Module) and _gains(model, images) else None
    logits = None if module is None else _logits(module, images)
    if module is None or logits is None:
        yield
        return
    weights = list(module.parameters())
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        if not _classifies(module, images, logits):
            _restore(weights, before)
        yield
    finally:
        _restore(weights, before)


def _gains(model: nn.Module, images: Tensor) -> bool:
    """Whether the model pools maxima on a CPU: there kernels that keep the channels of a pixel together are faster.

    On the small MNIST net, one thread, a forward pass 1.2 times, one with an input gradient by a few percent.
    """
    if images.device.type != "cpu":
        return False
    pools = any(isinstance(module, nn.MaxPool2d) for module in model.modules())
    return pools and all(weight.is_contiguous() for weight in model.parameters())


def _logits(model: nn.Module, images: Tensor) -> Tensor | None:
    """None where the model does not take such images, or not in this layout: a view of what is not in one piece."""
    try:
        return passes.reference_outputs(model, images)
    except RuntimeError:
        return None


def _classifies(model: nn.Module, images: Tensor, logits: Tensor) -> bool:
    again = _logits(model, images)
    if again is None:
        return False
    spread = (logits.amax() - logits.amin()).clamp_min(_ROUNDING * logits.abs().amax())
    return bool(((again - logits).abs() <= _AGREES * spread).all())


def _restore(weights: list[nn.Parameter], data: list[Tensor]) -> None:
    for weight, was in zip(weights, data, strict=True):
        weight.data = was
