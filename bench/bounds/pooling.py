"""Max-pooling as rectifiers: max(a, b) = b + relu(a - b), pair by pair, until one value of each window is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.bounds.affine import Affine, Combine, Spread
from bench.bounds.layers import MaxPool, Rectifier


def places(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Where the values of each window lie in an H x W image, (h * w, H', W') for a `kernel` of h x w.

    A place in the padding, which never is the maximum, is moved to the nearest one inside, which is in the window too.
    """
    axes = []
    for length, wide, step, pad in zip(size, kernel, stride, padding, strict=True):
        starts = torch.arange(0, length + 2 * pad - wide + 1, step) - pad
        axes.append((starts[None] + torch.arange(wide)[:, None]).clamp(0, length - 1))
    rows, columns = axes
    where = rows[:, None, :, None] * size[1] + columns[None, :, None, :]
    return where.flatten(0, 1)


def in_pairs(pool: MaxPool) -> Iterator[Affine | Rectifier]:
    """A max-pool as a chain: its values gathered, then differences of pairs rectified and added, in rounds."""
    left, rest = len(pool.places), pool.outputs
    yield Spread(pool.gather, pool.inputs, (left, *rest))
    joined = torch.eye(left, dtype=torch.float64)
    while left > 1:
        pairs = left // 2
        compared, added = _rounds(left)
        matrix = compared @ joined
        yield Combine(matrix, (matrix.shape[1], *rest), (left, *rest))
        marks = (torch.arange(left) < pairs).view(-1, *[1] * len(rest))
        yield Rectifier((left, *rest), marks)
        joined, left = added, left - pairs
    yield Combine(joined, (joined.shape[1], *rest), (1, *rest))
    yield Spread(lambda x: x.squeeze(1), (1, *rest), rest)


def _rounds(count: int) -> tuple[Tensor, Tensor]:
    """The matrix to differences of pairs, their second values and a last one alone; and the one that adds pairs up."""
    pairs, alone = count // 2, count % 2
    one, nothing = torch.eye(pairs, dtype=torch.float64), torch.zeros(pairs, alone, dtype=torch.float64)
    last = torch.eye(alone, dtype=torch.float64)
    zeros = torch.zeros(alone, pairs, dtype=torch.float64)
    compared = torch.cat([
        torch.cat([one, -one, nothing], 1),
        torch.cat([0 * one, one, nothing], 1),
        torch.cat([zeros, zeros, last], 1),
    ])  # fmt: skip
    added = torch.cat([torch.cat([one, one, nothing], 1), torch.cat([zeros, zeros, last], 1)])
    return compared, added
