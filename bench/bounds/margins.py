"""Lower bounds of margins over everything that an attacker may reach: cheap ones first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.bounds import crown
from bench.bounds.interval import Bounds
from bench.bounds.network import Network
from bench.bounds.region import Region

METHODS = ("ibp", "crown-ibp", "crown")
"""From the cheapest to the tightest: interval bounds; a backward pass over them; backward passes for every layer."""


@dataclass(frozen=True)
class Margin:
    """A lower bound of the least margin of an image over a region, and the tightest method that was tried for it."""

    value: float
    method: str

    @property
    def failed(self) -> bool:
        """Whether there is no bound: a layer or the margin is NaN or infinite."""
        return not math.isfinite(self.value)


def margin(network: Network, region: Region, label: int, methods: tuple[str, ...] = METHODS) -> Margin:
    """The logit of the label minus the highest other one is at least this, everywhere in a region.

    The methods are tried in turn until one shows it to be positive; the best bound stands.
    """
    with torch.no_grad():
        bounds = Bounds.over(network, region)
        best = Margin(math.nan, methods[0])
        if not bounds.is_finite:
            return best
        rows = _differences(network.classes, label)
        for method in methods:
            value = float(_BY[method](bounds, rows).min())
            stays = best.value >= value or not (best.failed or math.isfinite(value))
            best = Margin(best.value if stays else value, method)
            if best.value > 0 or not math.isfinite(value):
                break
    return best


def _differences(classes: int, label: int) -> Tensor:
    """The coefficients (K - 1, K) of the label's logit minus each other one."""
    others = [k for k in range(classes) if k != label]
    rows = torch.zeros(classes - 1, classes, dtype=torch.float64)
    rows[:, label] = 1.0
    rows[torch.arange(classes - 1), others] = -1.0
    return rows


def _by_intervals(bounds: Bounds, rows: Tensor) -> Tensor:
    """The differences merged into what comes after the last rectifier, over the interval that leaves that."""
    stop = max(bounds.network.rectifiers, default=-1) + 1
    return crown.lower(bounds, rows, len(bounds.network.layers), stop)


def _by_a_pass(bounds: Bounds, rows: Tensor) -> Tensor:
    """A backward pass to the image; intervals are better where lines are loose, as those of unlike pairs in a pool."""
    return torch.maximum(crown.lower(bounds, rows, len(bounds.network.layers)), _by_intervals(bounds, rows))


def _by_passes(bounds: Bounds, rows: Tensor) -> Tensor:
    crown.refine(bounds)
    return _by_a_pass(bounds, rows)


_BY: dict[str, Callable[[Bounds, Tensor], Tensor]] = {
    "ibp": _by_intervals,
    "crown-ibp": _by_a_pass,
    "crown": _by_passes,
}
