"""What chance alone can do: 95 % limits of shares, means and paired differences, and McNemar's test.

SciPy's tests are imported where they are called: importing them takes longer than most commands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_CHANCE = 0.05
_NORMAL = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


def wilson(count: int, n: int) -> tuple[float, float]:
    """The Wilson 95 % limits of the share count / n, without continuity correction; NaN if n is 0."""
    if not n:
        return math.nan, math.nan
    share, squared = count / n, _NORMAL**2
    width = 2 * (n + squared)
    middle, half = (2 * n * share + squared) / width, _NORMAL / width * math.sqrt(4 * n * share * (1 - share) + squared)
    return middle - half if count else 0.0, middle + half if count < n else 1.0


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Normal limits of the mean of values: mean ± 1.96 standard errors; NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    middle, half = fmean(values), _NORMAL * stdev(values) / math.sqrt(len(values))
    return middle - half, middle + half


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact two-sided p-value: how likely chance alone moves `lost` images down and `gained` up."""
    if not lost + gained:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + gained, 0.5).pvalue)


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
    """The difference that `only_a` images won and `only_b` lost of n make, with McNemar's p-value.

    The limits are Bonett and Price's (2012): Wald's after adding one image to each side, which hold up where few images
    differ.
    """
    if not n:
        return Difference(0, math.nan, math.nan, math.nan, math.nan)
    won, lost = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = _NORMAL * math.sqrt((won + lost - (won - lost) ** 2) / (n + 2))
    return Difference(n, (only_a - only_b) / n, won - lost - half, won - lost + half, mcnemar(only_a, only_b))
