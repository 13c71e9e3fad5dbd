"""What turns features into logits: a trained linear map, or preset class centers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.core.registry import suggestion
from bench.core.types import UserError
from bench.ops.center_losses import squared_distances

Linear = nn.Linear


def max_mahalanobis_centers(K: int, D: int, C: float = 10.0) -> Tensor:
    """Max-Mahalanobis centers (K, D): norm C, every two at inner product -C^2 / (K - 1).

    The vertices of a regular simplex, by the recursion of MAT's eq. 3 (Pang et al. 2018, algorithm 1).

    Raises:
        UserError: fewer than two classes, or D < K - 1, where no such centers exist.
    """
    if K < 2:
        raise UserError(f"class centers need at least 2 classes, not {K}: give more classes or head linear")
    if D < K - 1:
        raise UserError(f"{K} class centers do not fit in {D} features: give dim {K - 1} or more")
    centers = torch.zeros(K, max(D, K), dtype=torch.float64)
    centers[0, 0] = 1
    for k in range(1, K):
        for j in range(k):
            centers[k, j] = -(1 / (K - 1) + centers[k] @ centers[j]) / centers[j, j]
        if k < K - 1:  # the last center closes the simplex: its own coordinate is 0, up to rounding
            centers[k, k] = (1 - centers[k].square().sum()).sqrt()
    return (C * centers[:, :D]).float()


class _CenterHead(nn.Module):
    centers: Tensor

    def __init__(self, width: int, classes: int, scale: float = 10.0) -> None:
        super().__init__()
        self.register_buffer("centers", max_mahalanobis_centers(classes, width, scale))


class ClassCenters(_CenterHead):
    """Logits (N, K) are inner products of features (N, D) with fixed centers: h = W phi, no bias (MAT, section 3)."""

    def forward(self, z: Tensor) -> Tensor:
        """Features (N, D) to logits (N, K)."""
        return z @ self.centers.T


class NearestCenter(_CenterHead):
    """Logits (N, K) are minus squared distances to fixed centers (MMC, Pang et al. 2020, eq. 9)."""

    def forward(self, z: Tensor) -> Tensor:
        """Features (N, D) to logits (N, K)."""
        return -squared_distances(z, self.centers)


CENTER_HEADS: dict[str, type[_CenterHead]] = {"centers": ClassCenters, "nearest": NearestCenter}


def head_of(name: str, width: int, classes: int, scale: float = 10.0) -> nn.Module:
    """The head `name` (linear, centers, nearest) on features of `width`; `scale` is C, the norm of the centers.

    Raises:
        UserError: no such head, or centers that do not fit.
    """
    if name == "linear":
        return Linear(width, classes)
    if name not in CENTER_HEADS:
        raise UserError(f"unknown head {name!r}: {suggestion(name, ['linear', *CENTER_HEADS])}")
    return CENTER_HEADS[name](width, classes, scale)
