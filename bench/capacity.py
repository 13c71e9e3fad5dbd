"""How many images to put through a model at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LARGEST = 512
# Beyond this an image batch leaves the caches of a CPU, and larger batches are slower, not faster.
_CPU_BYTES = 96 * 2**20
_GPU_SHARE = 0.25


def activation_bytes(model: Any, image: Tensor) -> int:
    """Bytes of the leaf modules' outputs for one image (1, C, H, W): about what a backward pass keeps."""
    seen = [image.numel() * image.element_size()]

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append(output.numel() * output.element_size())

    leaves = [m for m in model.modules() if not list(m.children())] if isinstance(model, nn.Module) else []
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(seen)


def batch_size(model: Any, image: Tensor) -> int:
    """A power of two between 16 and 512, from the size of the model's activations and the memory of its device."""
    budget = _CPU_BYTES
    if image.is_cuda:
        budget = int(torch.cuda.mem_get_info(image.device)[0] * _GPU_SHARE)
    fits = max(budget // max(activation_bytes(model, image), 1), 1)
    return int(min(_LARGEST if not image.is_cuda else 4096, max(16, 2 ** (fits.bit_length() - 1))))
