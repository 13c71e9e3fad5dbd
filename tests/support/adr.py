"""Shared by the tests of ADR."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.ops import rng

OFF = {"lc": 0.0, "gb": 0.0, "smt": 0.0, "conf": 0.0}


def drawn(count: int, width: int, purpose: str) -> Tensor:
    return rng.normal(rng.keys(0, torch.arange(count), purpose), (width,))
