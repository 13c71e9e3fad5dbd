"""Objectives on features and class centers: FTC, SO, BIBO, MMC, MAT."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from bench.core.types import HasCenters
from bench.ops.losses import best_other, margin, scale_of
from bench.ops.norms import TINY


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity (N,) of the rows of a and b (N, D)."""
    return F.cosine_similarity(a / scale_of(a), b / scale_of(b), dim=1, eps=TINY)


def cosines_to_centers(z: Tensor, centers: Tensor) -> Tensor:
    """Cosine similarity (N, K) of features (N, D) to class centers (K, D)."""
    z, centers = z / scale_of(z), centers / scale_of(centers)
    return F.normalize(z, dim=1, eps=TINY) @ F.normalize(centers, dim=1, eps=TINY).T


def feature_to_center(z: Tensor, centers: Tensor, y: Tensor) -> Tensor:
    """FTC (N,): cosine distance of features to the center of y (MAT, eq. 4)."""
    return 1 - cosine(z, centers[y])


def second_order(z: Tensor, centers: Tensor, y: Tensor) -> Tensor:
    """SO (N,): squared norm of the gradient of FTC with respect to the features (MAT, eq. 6).

    In closed form (1 - cos^2) / ||z||^2, so training on it needs no second backward pass.
    """
    return (1 - cosine(z, centers[y]).square()) / z.square().sum(1).clamp_min(TINY)


def cosine_distance(z_clean: Tensor, z: Tensor) -> Tensor:
    """CD (N,) between two sets of features: the inner function of BIBO (MAT, eq. 8). Flat where they are equal."""
    return 1 - cosine(z_clean, z)


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """Squared Euclidean distances (N, K) of features (N, D) to centers (K, D)."""
    return z.square().sum(1, keepdim=True) - 2 * z @ centers.T + centers.square().sum(1)


def max_mahalanobis(z: Tensor, centers: Tensor, y: Tensor) -> Tensor:
    """MMC loss (N,): half the squared distance to the center of y (Pang et al. 2020, eq. 8)."""
    return (z - centers[y]).square().sum(1) / 2


@dataclass(frozen=True)
class MatObjective:
    """ftc FTC + alpha SO + beta CD: MAT's training loss without BIBO's inner maximum.

    Reference, where beta is not zero: clean features (N, D).
    """

    alpha: float = 1.0
    beta: float = 6.0
    ftc: float = 1.0

    def __call__(self, model: HasCenters, x: Tensor, y: Tensor, z_clean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values (N,) and logits (N, K)."""
        z, centers = model.features(x), model.class_centers()
        total = z.new_zeros(len(z))
        if self.ftc:
            total = total + self.ftc * feature_to_center(z, centers, y)
        if self.alpha:
            total = total + self.alpha * second_order(z, centers, y)
        if self.beta and z_clean is not None:
            total = total + self.beta * cosine_distance(z_clean, z)
        return total, model.classify(z)


def cosine_margin(model: HasCenters, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Best wrong cosine minus the true one: scale-free, and positive exactly where a class-center model is wrong."""
    z = model.features(x)
    return margin(cosines_to_centers(z, model.class_centers()), y), model.classify(z)


def nearest_wrong_center(model: HasCenters, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Minus half the squared distance to the nearest wrong center: MMC's own loss as its attacker uses it.

    After Tramer et al. (2020): the target is chosen anew at each step.
    """
    z = model.features(x)
    distances = squared_distances(z, model.class_centers())
    return best_other(-distances, y) / 2, model.classify(z)
