"""The layers that bounds pass through, in float64: affine maps, and rectifiers and max-pools between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.bounds.affine import Affine, Shape


@dataclass(frozen=True)
class Rectifier:
    """ReLU of the values that `rectified` (broadcast to `inputs`) marks, the identity of the others."""

    inputs: Shape
    rectified: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.bool))

    @property
    def outputs(self) -> Shape:
        """The same shape."""
        return self.inputs

    @property
    def marks(self) -> Tensor:
        """Which values are rectified (*inputs)."""
        return self.rectified.expand(self.inputs)

    def apply(self, x: Tensor) -> Tensor:
        """Values (N, *inputs) after it."""
        return torch.where(self.rectified, x.clamp(min=0), x)


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window of (C, H, W): `places` (k, H', W') says where in H x W its k values lie."""

    places: Tensor
    inputs: Shape
    outputs: Shape

    def gather(self, x: Tensor) -> Tensor:
        """Values (N, C, H, W) as (N, k, C, H', W')."""
        chosen = x.flatten(2)[:, :, self.places.flatten()]
        return chosen.view(*chosen.shape[:2], *self.places.shape).transpose(1, 2)

    def apply(self, x: Tensor) -> Tensor:
        """Values (N, C, H, W) after it."""
        return self.gather(x).amax(1)


Layer = Affine | Rectifier | MaxPool
