"""Where tensors are computed: devices by the names that users give them."""

from __future__ import annotations

import re

import torch

from bench.core.text import shown
from bench.core.types import UserError

AUTO = "auto"
_KNOWN = r"(cpu|cuda|mps|xpu)(:[0-9]{1,3})?"


def device_named(name: str) -> str:
    """The device of this name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        UserError: it is of a kind that cannot compute (such as `meta`), or it is not there.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == AUTO else name
    try:
        there = re.fullmatch(_KNOWN, chosen) and torch.ones(1, device=chosen).add(1).item() == 2
    except (RuntimeError, AssertionError, ImportError, ValueError):
        there = False
    if not there:
        raise UserError(f"device {shown(name)} is not available here: use cpu or auto")
    return chosen
