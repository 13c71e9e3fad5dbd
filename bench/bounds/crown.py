"""Linear bounds by a backward pass from any layer to the image (CROWN, Zhang et al. 2018).

A row is an affine function of the values that enter a layer, of which a lower bound over the region is wanted. Passing
a rectifier backward, each value is replaced by a line below or above it, by the sign of its coefficient; at the image
the function's least value over the region is known. Every step rounds by no more than a share of the absolute products
in it, which are summed along the way and taken off in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.bounds.interval import Bounds, Interval
from bench.bounds.layers import Rectifier
from bench.bounds.region import ROUNDS

_ROWS = 2**18
"""How many values of rows are worked on at once: as many as a processor's cache holds."""
_ROUGH = 2
"""Rounds for an l2 ball where only a rectifier's lines depend on the bound."""
_LINE = 8 * 2.0**-53
"""The share by which the offset of an upper line is raised: what it is computed of rounds three times."""


@dataclass(frozen=True)
class Lines:
    """For each value (*shape) that enters a rectifier: below * x <= relu(x) <= above * x + offset."""

    below: Tensor
    above: Tensor
    offset: Tensor


def lines(interval: Interval, marks: Tensor) -> Lines:
    """The lines of a rectifier over an interval; the identity where it is not marked, or never below 0.

    Where it may be both, the lower line is 0 or x, whichever leaves the smaller area; the upper one goes through both
    ends. Any slope from 0 to 1 is valid with the larger of the two offsets that the ends ask for.
    """
    low, high = interval.low, interval.high
    passing = ~marks | (low >= 0)
    both = marks & (low < 0) & (high > 0)
    slope = torch.where(both, high / (high - low), passing.double()).clamp(0, 1)
    offset = torch.where(both, torch.maximum(-slope * low, high * (1 - slope)) * (1 + _LINE), 0)
    below = torch.where(both, (high > -low).double(), slope)
    return Lines(below, slope, offset)


def lower(bounds: Bounds, rows: Tensor, place: int, stop: int = 0, rounds: int = ROUNDS) -> Tensor:
    """Lower bounds (R,) of <row, values that enter layer `place`>, rounding taken off.

    Args:
        bounds: what is known of the layers before it.
        rows: coefficients (R, *shape).
        place: the layer; the number of layers for the logits.
        stop: the layer at which the backward pass ends, in the interval that enters it; 0 for the region itself.
        rounds: see `Region.least`.
    """
    between = bounds.network.layers[stop:place]
    chunk = max(1, _ROWS // max(torch.Size(shape).numel() for shape in [rows.shape[1:], *(k.inputs for k in between)]))
    known = {
        k: lines(bounds.entering[k], layer.marks) for k, layer in bounds.network.rectifiers.items() if stop <= k < place
    }
    return torch.cat([_backward(bounds, part, place, stop, rounds, known) for part in torch.split(rows, chunk)])


def _backward(bounds: Bounds, rows: Tensor, place: int, stop: int, rounds: int, known: dict[int, Lines]) -> Tensor:
    total = torch.zeros(len(rows), dtype=torch.float64)
    products = torch.zeros(len(rows), dtype=torch.float64)
    for k in range(place - 1, stop - 1, -1):
        layer = bounds.network.layers[k]
        size = rows.abs().flatten(1)
        products += 2 * size @ bounds.magnitudes[k].flatten()
        if isinstance(layer, Rectifier):
            line = known[k]
            total += rows.clamp(max=0).flatten(1) @ line.offset.flatten()
            rows = torch.where(rows >= 0, rows * line.below, rows * line.above)
        else:
            total += rows.flatten(1) @ layer.offset().flatten()
            rows = layer.transposed(rows)
    entering = bounds.entering[stop]
    products += 4 * rows.abs().flatten(1) @ entering.largest.flatten()
    least = total + (entering.least(rows) if stop else bounds.region.least(rows, rounds))
    return least - bounds.network.rounding * (products + total.abs() + least.abs())


def refine(bounds: Bounds) -> None:
    """Tighten what enters each rectifier by backward passes, first to last, where it is not known to be on or off."""
    for place, layer in bounds.network.rectifiers.items():
        interval = bounds.entering[place]
        undecided = (layer.marks & (interval.low < 0) & (interval.high > 0)).flatten().nonzero().squeeze(1)
        if len(undecided) and not _is_exact(bounds, place):
            bounds.entering[place] = _tightened(bounds, place, undecided)
            bounds.propagate(place)


def _tightened(bounds: Bounds, place: int, chosen: Tensor) -> Interval:
    """The interval that enters a layer, with the values at places `chosen` (n,) bounded by backward passes."""
    before = bounds.entering[place]
    shape, low, high = before.low.shape, before.low.flatten().clone(), before.high.flatten().clone()
    for part in torch.split(chosen, max(1, _ROWS // len(low))):
        rows = torch.zeros(len(part), len(low), dtype=torch.float64)
        rows[torch.arange(len(part)), part] = 1.0
        rows = rows.view(len(part), *shape)
        low[part] = torch.maximum(low[part], lower(bounds, rows, place, rounds=_ROUGH))
        high[part] = torch.minimum(high[part], -lower(bounds, -rows, place, rounds=_ROUGH))
    return Interval(low.view(shape), high.view(shape))


def _is_exact(bounds: Bounds, place: int) -> bool:
    """Whether intervals are the best there is: in a box, before the first rectifier, where one layer mixes values."""
    before = bounds.network.layers[:place]
    if bounds.region.norm != "linf" or any(isinstance(layer, Rectifier) for layer in before):
        return False
    return sum(layer.mixes for layer in before if not isinstance(layer, Rectifier)) <= 1
