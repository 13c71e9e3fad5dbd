"""A model that computes in half precision and answers in full."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_Model = TypeVar("_Model", bound=nn.Module)
_ENTRIES = ("__call__", "forward", "features", "classify")


def in_bfloat16(model: _Model) -> _Model:
    """A second module that shares the model's weights, computes in bfloat16 by autocast and returns float32.

    So do its `features` and `classify`. Whatever is made of the outputs (a loss, a cosine near 1) keeps its digits. Its
    class is a subclass of the model's, so that it can be copied again.
    """
    result, kind = copy.copy(model), type(model)
    entries = {name: _rounded(getattr(kind, name)) for name in _ENTRIES if hasattr(kind, name)}
    result.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **entries})
    return result


def _rounded(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: nn.Module, x: Tensor) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            result = method(self, x)
        return result.float() if isinstance(result, Tensor) else result

    return call


@contextmanager
def precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in CUDA's matrix products and convolutions; what was set before comes back on leaving.

    torch allows it in convolutions by default: float32 on a GPU is float32 only where this forbids it.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    try:
        products.allow_tf32 = convolutions.allow_tf32 = tf32
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
