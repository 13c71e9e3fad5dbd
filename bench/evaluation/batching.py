"""How many images to put through a model at once, and what to do where they were too many."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.core.types import Classifier, UserError
from bench.ops import passes

T = TypeVar("T")

_LARGEST = 512
# Beyond this an image batch leaves the caches of a CPU, and larger batches are slower, not faster.
_CPU_BYTES = 96 * 2**20
_GPU_SHARE = 0.25
# How many times the size of its images TorchScript is taken to need, as nothing can be seen of what it computes.
_UNSEEN = 64


def activation_bytes(model: Classifier, image: Tensor) -> int:
    """Bytes of the leaf modules' outputs for one image (1, C, H, W): about what a backward pass keeps."""
    # Two images, for some models do not take one, and a copy of them, for some write into what they are given.
    pair = torch.cat([image, image])
    sizes = [pair.numel() * pair.element_size()]

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    scripts = [part for part in parts if isinstance(part, torch.jit.ScriptModule)]
    sizes += [_UNSEEN * sizes[0]] if scripts else []
    leaves = [part for part in parts if not list(part.children()) and part not in scripts]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        with torch.no_grad():
            model(pair)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes) // len(pair)


def batch_size(model: Classifier, image: Tensor) -> int:
    """A power of two between 16 and 512, from the size of the model's activations and the memory of its device."""
    budget = _CPU_BYTES
    if image.is_cuda:
        budget = int(torch.cuda.mem_get_info(image.device)[0] * _GPU_SHARE)
    fits = max(budget // max(activation_bytes(model, image), 1), 1)
    return int(min(_LARGEST if not image.is_cuda else 4096, max(16, 2 ** (fits.bit_length() - 1))))


def halving(attempt: Callable[[Tensor], T], rows: Tensor, join: Callable[[list[T]], T]) -> T:
    """`attempt(rows)`; where memory runs out, made in parts of half as many rows (n,), of a quarter, and so on.

    Rows must not depend on one another, and an attempt that fails must leave nothing behind, for it is made again.
    Parts stay as small as was needed once: what did not fit will not fit a moment later.

    Args:
        attempt: called with parts of `rows`, in order; with `rows` itself, be it empty, if that fits.
        rows: places (n,) of a batch, or anything else that leads with n.
        join: makes one result of those of the parts, in order, if there are several.

    Raises:
        UserError: a single image does not fit.
    """
    parts: list[T] = []
    at, size = 0, len(rows)
    while not parts or at < len(rows):
        try:
            parts.append(attempt(rows[at : at + size]))
            at += size
            continue
        except (MemoryError, RuntimeError) as fault:
            if not passes.out_of_memory(fault):
                raise
            if size <= 1:
                remedy = "free memory, or use a smaller model or image, or another --device"
                raise UserError(f"out of memory with a single image at once: {remedy}") from fault
        # Only past the handler is the failed attempt's stack gone, and with it the tensors that filled the memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = (size + 1) // 2
    return parts[0] if len(parts) == 1 else join(parts)
