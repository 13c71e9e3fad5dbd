"""A classifier whose features lie inside its stem of convolutions."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn

from bench.models.architectures.assembly import Assembled


class CutInside(Assembled):
    """An assembled classifier cut after some `layers` of its body's first stage; `shape` (C, H, W) is what flows there.

    Features are that output, flattened; `classify` folds it again. The weights keep their names.
    """

    def __init__(self, whole: Assembled, layers: int, shape: torch.Size) -> None:
        super().__init__(whole.body, whole.head, normalise=whole.normalise, embed=whole.embed)
        self.layers, self.shape = layers, shape

    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to features (N, D)."""
        z: Tensor = self.normalise(x)
        for layer in islice(self._stem().children(), self.layers):
            z = layer(z)
        return z.flatten(1)

    def classify(self, z: Tensor) -> Tensor:
        """Features (N, D) to logits (N, K)."""
        z = z.reshape(len(z), *self.shape)
        for layer in islice(self._stem().children(), self.layers, None):
            z = layer(z)
        for stage in islice(self.body.children(), 1, None):
            z = stage(z)
        logits: Tensor = self.head(self.embed(z))
        return logits

    def _stem(self) -> nn.Module:
        return next(self.body.children())


def layers_before(stem: nn.Sequential, name: str) -> int | None:
    """How many layers a stem has up to its convolution `name` and what follows that before the next one.

    None if it has none of this name, or it is the last: then that is the whole stem.
    """
    names = [child for child, _ in stem.named_children()]
    convolutions = [place for place, child in enumerate(names) if child.startswith("conv")]
    if name not in names or names.index(name) not in convolutions[:-1]:
        return None
    return convolutions[convolutions.index(names.index(name)) + 1]


def cut_inside(whole: Assembled, layers: int, in_channels: int, image: int) -> CutInside:
    """The classifier cut after `layers` layers of its stem, which takes (in_channels, image, image) images."""
    with torch.no_grad():
        z = torch.zeros(1, in_channels, image, image)
        for layer in islice(next(whole.body.children()).children(), layers):
            z = layer(z)
    return CutInside(whole, layers, z.shape[1:])
