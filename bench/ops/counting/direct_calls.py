"""Calls of a model that go past `bench.ops.passes`: nobody counts them, so no limit of passes would hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from bench.core.types import UserError

_counted: ContextVar[bool] = ContextVar("counted", default=False)


@contextmanager
def through_passes() -> Iterator[None]:
    """Inside, the model is called by `bench.ops.passes`."""
    token = _counted.set(True)
    try:
        yield
    finally:
        _counted.reset(token)


@contextmanager
def refused(model: object, attack: str) -> Iterator[None]:
    """Inside, a model that an attack calls itself is a fault of the attack.

    Raises:
        UserError: it calls it.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        yield
        return

    def look(_module: nn.Module, _inputs: Any) -> None:
        if not _counted.get():
            fault = f"attack {attack!r} calls the model itself, so that its passes are not counted"
            raise UserError(f"{fault}: use outputs and input_gradient of bench.plugin, or leave out --max-passes")

    handle = model.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()
