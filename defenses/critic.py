"""The critic that tells codes from draws of a prior, and the priors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.ops import rng

PRIORS = ("gaussian", "uniform", "cauchy")
_REACH = 3.0
_HALF_CELL = 2.0**-25  # noise.uniform has 24 bits: the middle of a cell is never 0, where the Cauchy's tail would end


class Critic(nn.Module):
    """T(z) = log sigmoid(d(z)): fully connected, ReLU, `depth` hidden layers of `width` (Li et al. 2021, appendix G).

    Four hidden layers and one to a single value, as in the public code; the paper counts the four.
    """

    def __init__(self, dim: int, width: int = 512, depth: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for _ in range(depth):
            self.layers.extend([nn.Linear(dim, width), nn.ReLU()])
            dim = width
        self.layers.append(nn.Linear(dim, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Codes (N, n_z) to T (N,), at most 0."""
        return F.logsigmoid(self.layers(z)).squeeze(1)

    @torch.no_grad()
    def clip(self, bound: float) -> None:
        """Bring every weight into [-bound, bound], which bounds the critic's slope (Arjovsky et al. 2017)."""
        for weight in self.parameters():
            weight.clamp_(-bound, bound)


def draws(prior: str, keys: Tensor, dim: int) -> Tensor:
    """Codes (N, dim) from N(0, 1), U(-3, 3) or Cauchy(0, 1), the paper's three priors, by key (N,)."""
    if prior == "gaussian":
        return rng.normal(keys, (dim,))
    share = rng.uniform(keys, (dim,)).double() + _HALF_CELL
    if prior == "uniform":
        return ((2 * share - 1) * _REACH).float()
    return (math.pi * (share - 0.5)).tan().float()
