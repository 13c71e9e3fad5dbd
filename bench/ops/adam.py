"""Adam's running averages for a batch, with one count of steps an image (Kingma and Ba 2015).

Attacks divide the averages in orders of their own, which round differently: see where `corrections` is called.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.ops import norms

BETA1, BETA2 = 0.9, 0.999
"""How much of the gradient's average and of its square's a step keeps."""
TINY = 1e-8
"""What is added to the root of the squares where it divides."""


@dataclass
class Adam:
    """Averages of gradients and of their squares (N, ...), and the steps (N,) that they hold."""

    mean: Tensor
    square: Tensor
    count: Tensor

    @classmethod
    def begin(cls, like: Tensor) -> Adam:
        """No step yet, for images like these (N, ...)."""
        count = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        return cls(torch.zeros_like(like), torch.zeros_like(like), count)

    def keep(self, which: Tensor) -> Adam:
        """The state of some images: a mask (N,), or places (n,)."""
        return Adam(self.mean[which], self.square[which], self.count[which])

    def restart(self, which: Tensor) -> None:
        """Forget the steps of the images in a mask (N,)."""
        images = norms.per_example(which, self.mean)
        self.mean.masked_fill_(images, 0)
        self.square.masked_fill_(images, 0)
        self.count.masked_fill_(which, 0)

    def add(self, gradient: Tensor) -> None:
        """Take a step's gradient (N, ...) into the averages."""
        self.count = self.count + 1
        self.mean = BETA1 * self.mean + (1 - BETA1) * gradient
        self.square = BETA2 * self.square + (1 - BETA2) * gradient.square()

    def add_part(self, part: slice, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The same for some of the images in place, by fewer sweeps over memory; return their two averages.

        The caller counts the step. Fused operations round otherwise than those of `add`.
        """
        mean, square = self.mean[part], self.square[part]
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        return mean, square

    def corrections(self) -> tuple[Tensor, Tensor]:
        """The shares (N,) of 1 that the weights of either average sum to so far, in double precision."""
        count = self.count.double()
        return 1 - BETA1**count, 1 - BETA2**count
