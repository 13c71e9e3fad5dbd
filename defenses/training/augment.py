"""Augmentation of a whole batch on its device, each image by its own key."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.ops import rng


def cropped(x: Tensor, keys: Tensor, padding: int, fill: float = 0.0) -> Tensor:
    """Images (N, C, H, W) padded by `padding` on each side with `fill` and cut back at a random place each."""
    height, width = x.shape[2:]
    padded = F.pad(x, (padding,) * 4, value=fill)
    top = rng.integers(rng.fold(keys, 0), 2 * padding + 1)
    left = rng.integers(rng.fold(keys, 1), 2 * padding + 1)
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    images = torch.arange(len(x), device=x.device)[:, None, None]
    # Advanced indices with a slice between them put the channels last.
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flipped(x: Tensor, keys: Tensor) -> Tensor:
    """Images (N, C, H, W), each mirrored left to right with probability 1/2."""
    mirrored = rng.integers(keys, 2) == 1
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)
