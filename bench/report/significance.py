"""95 % limits of means and of differences between pairs; those of a share are `measures.wilson`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import binomtest

_CHANCE = 0.05
_NORMAL = 1.959963984540054


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Normal limits of the mean of values: mean ± 1.96 standard errors; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    middle, half = fmean(values), _NORMAL * stdev(values) / math.sqrt(len(values))
    return middle - half, middle + half


@dataclass(frozen=True)
class Difference:
    """Accuracy of a minus accuracy of b on the same n images, as fractions, with limits and p-value."""

    n: int
    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_gain(self) -> bool:
        """Whether chance alone would hardly put a so far ahead."""
        return self.value > 0 and self.p_value < _CHANCE

    @property
    def is_loss(self) -> bool:
        """Whether chance alone would hardly put a so far behind."""
        return self.value < 0 and self.p_value < _CHANCE


def paired(only_a: int, only_b: int, n: int) -> Difference:
    """The difference that `only_a` images won and `only_b` lost of n make.

    The p-value is McNemar's exact one; the limits are Bonett and Price's (2012), Wald's after adding one image to each
    side, which hold up where few images differ.
    """
    if not n:
        return Difference(0, math.nan, math.nan, math.nan, math.nan)
    differ = only_a + only_b
    p_value = float(binomtest(only_a, differ).pvalue) if differ else 1.0
    won, lost = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = _NORMAL * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return Difference(n, (only_a - only_b) / n, won - lost - half, won - lost + half, p_value)


_CONFIDENCE = 0.95


def wilson(count: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % limits of the fraction count / n; NaN if n is 0."""
    if not n:
        return float("nan"), float("nan")
    limits = binomtest(count, n).proportion_ci(_CONFIDENCE, method="wilson")
    return float(limits.low), float(limits.high)


def mcnemar(lost: int, gained: int) -> float:
    """The exact two-sided p-value that chance alone moves `lost` down and `gained` up."""
    return float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0
