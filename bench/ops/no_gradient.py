"""Why a model's outputs have no gradient with respect to its input, in one line; and what says that memory ran out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.core.types import UserError

# CUDA's allocator, its libraries, and torch's CPU allocator on Linux and on Windows.
_FULL = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")


class NoGradientError(UserError, RuntimeError):
    """The model's outputs cannot be differentiated with respect to its input."""


INFERENCE = "it runs in inference mode: compute outside torch.inference_mode()"
_REASONS = {
    "inference tensor": INFERENCE,
    "checkpoint": "it uses reentrant checkpointing, which passes no gradient to inputs: set use_reentrant=False",
    "modified by an inplace": "it writes over values that its gradient needs: use operations that are not in place",
    "second time": "it keeps a graph between calls: compute afresh at each call",
}


@contextmanager
def explained(cut_off: bool) -> Iterator[None]:
    """Turn what autograd refuses into one line; with `cut_off`, any refusal that is not known says just that.

    Raises:
        NoGradientError: there is no gradient, and why.
    """
    try:
        yield
    except RuntimeError as fault:
        text = str(fault).lower()
        known = next((reason for sign, reason in _REASONS.items() if sign in text), None)
        if known is None and (not cut_off or out_of_memory(fault)):
            raise
        raise refusal(
            known or "its output is cut off from it: give --backward identity, or use gradient-free attacks"
        ) from fault


def refusal(why: str) -> NoGradientError:
    """The error that says why there is no gradient."""
    return NoGradientError(f"no gradient reaches the model's input: {why}")


def out_of_memory(fault: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in torch's CPU allocator, not that a call is wrong."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(fault, RuntimeError) and any(sign in str(fault).lower() for sign in _FULL)
