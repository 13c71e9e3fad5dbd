"""Children of the points of a population: blends of two by a smooth mask, some with a patch set anew.

Random keys are by image, generation and child, so that a child is the same in any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.ops import norms, rng
from bench.ops.norms import Ball

_GRID = (2, 8)
"""The fewest and the most cells of a mask's grid, across the image."""


def child_keys(keys: Tensor, generation: int, count: int) -> Tensor:
    """Keys (n, count) of the children of images with keys (n,)."""
    own = rng.fold(keys, generation)
    number = torch.arange(count, device=keys.device).repeat(len(keys))
    return rng.fold(own.repeat_interleave(count), number).view(-1, count)


def parents(keys: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Two different places (N,), (N,) in populations of `size`, or the only one twice."""
    first = rng.integers(rng.fold(keys, 0), size)
    other = (first + 1 + rng.integers(rng.fold(keys, 1), max(size - 1, 1))) % size
    return first, other


def smooth_mask(keys: Tensor, size: tuple[int, int], sharpness: float) -> Tensor:
    """Masks (N, 1, H, W) of low frequency in [0, 1], of a `size` (H, W).

    Noise on a coarse grid, 2 to 8 cells across as each mask draws, interpolated; `sharpness` is the slope of the
    sigmoid that it goes through.
    """
    (height, width), (low, high) = size, _GRID
    cells = low + rng.integers(rng.fold(keys, 0), high - low + 1)
    draws = rng.normal(rng.fold(keys, 1), (1, high + 1, high + 1))
    lines = torch.arange(height, device=keys.device), torch.arange(width, device=keys.device)
    # Where each line and column lies in the grid, which is stretched over the image by its own number of cells.
    down, across = ((2 * line[None] + 1) / len(line) / 2 * cells[:, None] for line in lines)
    grid = torch.stack([across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], -1)
    noise = F.grid_sample(draws, grid * (2 / high) - 1, mode="bilinear", align_corners=True)
    return torch.sigmoid(sharpness * noise)


def blended(first: Tensor, second: Tensor, mask: Tensor, ball: Ball) -> Tensor:
    """Points (N, C, H, W) between two others, pixel by pixel, by masks (N, 1, H, W); projected to the ball.

    In linf they lie in it but for rounding, in l2 pixels of one and of the other may be longer than either.
    """
    return ball.project(torch.lerp(second, first, mask))


def patched(z: Tensor, ball: Ball, keys: Tensor, smallest: float, largest: float) -> Tensor:
    """Points (N, C, H, W) with one rectangle each set anew, of sides between two shares of the image's.

    In linf at random ends of each pixel's range, in other norms by fresh noise of the ball; projected to the ball.
    """
    height, width = z.shape[2:]
    draws = rng.uniform(rng.fold(keys, 0), (4,))
    inside = []
    for place, side in enumerate((height, width)):
        length = (draws[:, place] * (largest - smallest) + smallest) * side
        start = draws[:, 2 + place] * (side - length)
        line = torch.arange(side, device=z.device) + 0.5
        inside.append((line >= start[:, None]) & (line < (start + length)[:, None]))
    mask = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    if ball.norm == "linf":
        fresh = ball.x + rng.signs(rng.fold(keys, 1), z.shape[1:]) * norms.per_example(ball.eps.to(z.dtype), z)
    else:
        fresh = ball.sample(rng.fold(keys, 1))
    return ball.project(torch.where(mask, fresh, z))
