"""Interval bounds of every layer (IBP, Gowal et al. 2018), rounded outward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.bounds.affine import Affine
from bench.bounds.layers import Rectifier
from bench.bounds.network import Network
from bench.bounds.region import Region


@dataclass(frozen=True)
class Interval:
    """Values (*shape) from `low` to `high`."""

    low: Tensor
    high: Tensor

    @property
    def largest(self) -> Tensor:
        """The largest absolute values."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def least(self, rows: Tensor) -> Tensor:
        """The least value (R,) of <row, x> for each of rows (R, *shape), but for rounding."""
        return torch.minimum(rows * self.low, rows * self.high).flatten(1).sum(1)

    @property
    def is_finite(self) -> bool:
        """Whether every end is a finite number."""
        return bool(self.low.isfinite().all() and self.high.isfinite().all())

    def within(self, other: Interval) -> Interval:
        """What both hold; an end that is NaN stays NaN."""
        return Interval(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))


@dataclass
class Bounds:
    """What is known of a network over a region: the interval that enters each layer, that of the logits last.

    `magnitudes` has, for an affine layer, |A| |x| + |b| at the largest |x|, to which its rounding is in proportion.
    """

    network: Network
    region: Region
    entering: list[Interval]
    magnitudes: list[Tensor]

    @classmethod
    def over(cls, network: Network, region: Region) -> Bounds:
        """Interval bounds of all layers."""
        made = cls(network, region, [Interval(region.low, region.high)], [])
        made.propagate(0)
        return made

    def propagate(self, start: int) -> None:
        """Make the intervals of the layers after `start` of the one that enters it, none wider than it was."""
        for place in range(start, len(self.network.layers)):
            after, magnitude = _through(self.network.layers[place], self.entering[place], self.network.rounding)
            if place in self.network.pools:
                first, pool = self.network.pools[place]
                before = self.entering[first]
                ends = (pool.apply(end[None])[0] for end in (before.low, before.high))
                after = after.within(Interval(*ends))
            if place + 1 < len(self.entering):
                self.entering[place + 1] = after.within(self.entering[place + 1])
            else:
                self.entering.append(after)
                self.magnitudes.append(magnitude)

    @property
    def is_finite(self) -> bool:
        """Whether every interval is."""
        return all(interval.is_finite for interval in self.entering)


def _through(layer: Affine | Rectifier, entering: Interval, rounding: float) -> tuple[Interval, Tensor]:
    """The interval of a layer's outputs, and what its rounding is in proportion to."""
    if isinstance(layer, Rectifier):
        return Interval(*(layer.apply(end[None])[0] for end in (entering.low, entering.high))), entering.largest
    middle = (entering.low + entering.high) / 2
    radius = torch.maximum(entering.high - middle, middle - entering.low)
    wide = layer.absolute(torch.stack([radius, entering.largest]))
    size = wide[1] + layer.offset().abs()
    reach, center = wide[0] + 2 * rounding * size, layer.apply(middle[None])[0]
    return Interval(center - reach, center + reach), size
