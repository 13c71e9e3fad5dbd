"""Kernel densities of features, one a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import UserError

_GRID = tuple(10 ** (-1.5 + step / 8) for step in range(17))  # of the features' spread: 0.03 to 3


@dataclass(frozen=True)
class ClassDensities:
    """f_t(z) = sum_i K(z, z_i) / n_t over the codes z_i of class t, with K = (pi s^2)^(-D/2) exp(-|z - z_i|^2 / s^2).

    The kernel is the ER-Classifier's (no 2 below the square: scikit-learn's bandwidth is s / sqrt 2).

    Args:
        codes: (R, D), in double precision, less their mean: differences of large squares stay exact enough.
        centre: (D,), that mean.
        labels: (R,).
        counts: (K,), how many codes each class has.
        bandwidth: s.
    """

    codes: Tensor
    centre: Tensor
    labels: Tensor
    counts: Tensor
    bandwidth: float

    def log_density(self, z: Tensor, classes: Tensor) -> Tensor:
        """Log density (N,) of features (N, D), each under its class (N,); differentiable, in double precision."""
        squared = squared_distances(z.double() - self.centre, self.codes)
        kernel = (-squared / self.bandwidth**2).masked_fill(self.labels != classes[:, None], -torch.inf)
        scale = self.codes.shape[1] / 2 * math.log(math.pi * self.bandwidth**2)
        return kernel.logsumexp(1) - self.counts[classes].log() - scale


def squared_distances(z: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances (N, R) of points (N, D) to others (R, D), never below 0."""
    return (z.square().sum(1, keepdim=True) - 2 * z @ others.T + others.square().sum(1)).clamp_min(0)


def class_densities(codes: Tensor, labels: Tensor, classes: int, bandwidth: float = 0.0) -> ClassDensities:
    """Densities of codes (R, D) with labels (R,) for K classes; bandwidth 0 has it chosen by cross-validation.

    Raises:
        UserError: a class has no codes, or codes that do not differ within any class leave no bandwidth to choose.
    """
    counts = labels.bincount(minlength=classes)
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(f"class {empty[0]} has no training images, so it has no density: give some, or use lid")
    codes = codes.double()
    centre = codes.mean(0)
    codes = codes - centre
    chosen = bandwidth or best_bandwidth([codes[labels == t] for t in range(classes)])
    return ClassDensities(codes, centre, labels, counts.double(), chosen)


def best_bandwidth(groups: Sequence[Tensor]) -> float:
    """The bandwidth of a logarithmic grid under which codes are most likely given the others of their class.

    Leave-one-out cross-validation over all classes together; the grid is relative to the codes' spread within classes.

    Raises:
        UserError: codes do not differ within any class.
    """
    groups = [group for group in groups if len(group) > 1]
    total = sum((group - group.mean(0)).square().sum() for group in groups)
    size = sum(group.numel() for group in groups)
    spread = float((torch.as_tensor(total) / max(size, 1)).sqrt())
    if not spread > 0:
        raise UserError("the features do not differ within any class: there is no bandwidth to choose; give one")
    apart = [squared_distances(group, group).fill_diagonal_(torch.inf) for group in groups]
    dimension = groups[0].shape[1]
    return max(
        (share * spread for share in _GRID), key=lambda width: sum(_left_out(part, width, dimension) for part in apart)
    )


def _left_out(squared: Tensor, bandwidth: float, dimension: int) -> float:
    """The sum of log densities of n points, each under the others; their squared distances (n, n), own infinite."""
    kernel = (-squared / bandwidth**2).logsumexp(1)
    scale = math.log(len(squared) - 1) + dimension / 2 * math.log(math.pi * bandwidth**2)
    return float((kernel - scale).sum())
