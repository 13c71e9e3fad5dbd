"""When the host may ask what a tensor holds: on a CPU that is free, on a GPU the host waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_every: ContextVar[int | None] = ContextVar("every", default=None)


@contextmanager
def compacting(every: int) -> Iterator[None]:
    """Inside the block images leave an attack's batch every so many steps, on any device."""
    token = _every.set(every)
    try:
        yield
    finally:
        _every.reset(token)


def steps_between() -> int | None:
    """The steps that a block of `compacting` says, if there is one."""
    return _every.get()


def asks(device: torch.device) -> bool:
    """Whether asking what a tensor holds costs nothing here."""
    return device.type == "cpu" and _every.get() in (None, 1)
