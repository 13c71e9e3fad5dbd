"""Which images of a set are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.core.samples import Choice
from bench.core.types import ImageSet

if TYPE_CHECKING:
    from torch import Tensor


def first_of_each_class(labels: Tensor, count: int) -> Tensor:
    """The places of the first `count` images of each class that labels (N,) hold, class by class."""
    import torch  # a list of the data sets needs none

    return torch.cat([(labels == label).nonzero().squeeze(1)[:count] for label in sorted(set(labels.tolist()))])


def taken(whole: ImageSet, count: int | None, choice: Choice, seed: int) -> tuple[ImageSet, str]:
    """So many images of a set, and how they were chosen: `first`, `stratified`, or nothing where all are taken.

    Args:
        whole: the set.
        count: how many; None for all.
        choice: how; see `bench.core.samples`.
        seed: what a stratified sample is drawn with.
    """
    if count is None or (count == len(whole) and choice != "stratified"):
        return whole, ""
    if choice == "stratified" or (choice == "auto" and in_blocks(whole.labels)):
        return whole.select(stratified(whole.labels, count, seed)), "stratified"
    return whole.select(slice(0, count)), "first"


def in_blocks(labels: Tensor) -> bool:
    """Whether labels (N,) stand class after class, each in one block, of which at least one is longer than an image."""
    runs = 1 + int((labels[1:] != labels[:-1]).sum())
    return 1 < runs < len(labels) and runs == len(set(labels.tolist()))


def stratified(labels: Tensor, count: int, seed: int) -> Tensor:
    """The places of `count` images of a set with labels (N,), each class having its share of them.

    Classes that are equally frequent have numbers that differ by one at most. The images of a class are drawn by seed,
    and follow those of other classes in turn: the first half of a sample is a sample too, and one of the larger ones.
    """
    import torch  # a list of the data sets needs none

    y = labels.numpy()
    classes, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
    # The bits of a generator are the same in every version of numpy, its permutations are not.
    draws = np.random.PCG64(seed % 2**64).random_raw(len(y) + len(classes))
    order = np.lexsort((draws[: len(y)], codes))
    rank = np.empty(len(y), np.int64)
    rank[order] = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # The r-th of a class's n images comes at the share (r + u) / n of the whole, with a u between 0 and 1 of the class.
    shift = draws[len(y) :].astype(np.float64) / 2.0**64
    return torch.from_numpy(np.argsort((rank + shift[codes]) / sizes[codes], kind="stable")[:count].copy())
