"""Keeps the attacks of other libraries from changing anything: random states, weights, modes, what is printed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.ops import draws, passes
from bench.ops.frozen import restored, still


@contextmanager
def isolated(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed every global random state, freeze the weights, and leave all of it, and the model's modes, as they were.

    What a library prints goes to stderr, for results are on stdout.
    """
    python, numeric = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), redirect_stdout(sys.stderr), restored(model):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        still(model)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numeric)


@contextmanager
def watched(model: nn.Module, rows: Tensor) -> Iterator[None]:
    """Count the rows that pass through the model, and charge each image of `rows` (n,) the average, rounded up."""
    seen, made = {"forwards": 0, "backwards": 0}, draws.count(model)

    def backward(gradient: Tensor) -> None:
        seen["backwards"] += made * len(gradient)

    def forward(_module: nn.Module, _inputs: Any, logits: Any) -> None:
        if isinstance(logits, Tensor):
            seen["forwards"] += made * len(logits)
            if logits.requires_grad:
                logits.register_hook(backward)  # type: ignore[no-untyped-call]

    handle = model.register_forward_hook(forward)
    try:
        yield
    finally:
        handle.remove()
        passes.charge(rows, *(-(-count // len(rows)) for count in seen.values()))
