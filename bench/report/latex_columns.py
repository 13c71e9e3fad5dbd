"""The columns of a LaTeX table: limits in the cells, published numbers beside measured ones, and how wide they are.

Widths are counted in digits of the font, 0.5 em in Computer Modern.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from bench.report.captions import is_setting
from bench.report.columns import cell, heading, is_fraction, is_missing, is_number

_LOW, _HIGH, _PUBLISHED = "_low", "_high", "_published"
_WIDTHS = {
    letter: width for letters, width in (("fijlrtI .,;:()[]|!'", 0.62), ("mwMW%@&×=+<>", 1.6)) for letter in letters
}
_CAPITAL = 1.35
LONGEST = 28.0
"""A cell wider than this is broken into lines."""
LINE = 24.0
"""The width of such a cell's lines."""
GAP = 1.4
"""The space between two columns."""


@dataclass(frozen=True)
class Column:
    """A printed column: a heading and its cells."""

    heading: str
    cells: tuple[str, ...]
    is_number: bool

    @property
    def lines(self) -> tuple[str, str]:
        """The heading in two lines of about one length; the first is empty if it is one word, with its unit."""
        words = self.heading.replace(" %", "\N{NO-BREAK SPACE}%").split(" ")
        cuts = [(" ".join(words[:place]), " ".join(words[place:])) for place in range(len(words))]
        return min(cuts, key=lambda lines: max(map(len, lines)))

    @property
    def width(self) -> float:
        """The widest of its cells and heading lines."""
        natural = max(map(text_width, (*self.lines, *self.cells)))
        return LINE if natural > LONGEST else natural

    def line_count(self, row: int) -> int:
        """How many lines a cell takes."""
        width = text_width(self.cells[row])
        return 1 if width <= LONGEST else math.ceil(1.1 * width / LINE)


@dataclass(frozen=True)
class Group:
    """A column, or a measured and a published one under a heading. Keys say which row it is."""

    columns: tuple[Column, ...]
    heading: str = ""
    is_key: bool = False

    @property
    def name(self) -> str:
        """What stands above it."""
        return self.heading or self.columns[0].heading

    @property
    def width(self) -> float:
        """The width of its columns and the gaps after them, or of their heading if that is wider."""
        return max(sum(column.width + GAP for column in self.columns), text_width(self.heading) + GAP)

    def is_filled(self, row: int) -> bool:
        """Whether there is anything in a row."""
        return any(column.cells[row] for column in self.columns)


def text_width(text: str) -> float:
    """About how wide a text is."""
    return sum(_WIDTHS.get(letter, _CAPITAL if letter.isupper() else 1.0) for letter in text)


def groups(table: pd.DataFrame, written: Mapping[float, str], headings: Mapping[str, str] | None = None) -> list[Group]:
    """The columns of a table in their order, with limits and published numbers where they belong."""
    table = table.rename(columns={"ci_low": "robust_accuracy_low", "ci_high": "robust_accuracy_high"})
    return list(_groups(table, written, headings))


def _groups(table: pd.DataFrame, written: Mapping[float, str], headings: Mapping[str, str] | None) -> Iterator[Group]:
    names, leading = set(table.columns), True
    for name in table.columns:
        stem = next((name.removesuffix(end) for end in (_LOW, _HIGH, _PUBLISHED) if name.endswith(end)), "")
        if stem in names:
            continue
        column = table[name]
        leading = leading and not is_setting(name) and (name == "eps" or not is_number(column))
        cells = _limited(table, name) if f"{name}{_LOW}" in names else [cell(name, value, written) for value in column]
        measured = Column(heading(name, headings), tuple(cells), is_number(column))
        if (beside := f"{name}{_PUBLISHED}") in names:
            printed = tuple(cell(beside, value, written) for value in table[beside])
            ours = Column("ours", measured.cells, True)
            yield Group((ours, Column("paper", printed, True)), measured.heading)
        else:
            yield Group((measured,), is_key=leading)


def _limited(table: pd.DataFrame, name: str) -> list[str]:
    lows, highs = table[f"{name}{_LOW}"], table[f"{name}{_HIGH}"]
    return [limited(name, *line) for line in zip(table[name], lows, highs, strict=True)]


def limited(name: str, value: float, low: float, high: float) -> str:
    """A number with its 95 % limits as in "36.4 (31–42)": as many decimals as say something at such limits."""
    if is_missing(value) or is_missing(low):
        return cell(name, value, {})
    scale = 100 if is_fraction(name) else 1
    width = scale * (high - low)
    decimals = max(0, math.ceil(math.log10(5 / width))) if width > 0 else 1
    ends = "–".join(f"{scale * end:.{decimals}f}" for end in (low, high))
    return f"{scale * value:.{max(1, decimals)}f} ({ends})"
