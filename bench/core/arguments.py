"""Types of what is typed on the command lines: places, counts and seeds, refused in one short line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.core.files import check_place
from bench.core.samples import Sample, parse_sample
from bench.core.text import shown
from bench.core.types import UserError


class Place(click.ParamType[Path]):
    """A folder or file as a `pathlib.Path`; where it is to be written, a place that can be."""

    name = "path"

    def __init__(self, written: str = "") -> None:
        self._written = written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; see `click.ParamType.convert`."""
        what = (param.metavar or param.opts[0]) if param else "path"
        if not str(value) or "\0" in str(value):
            raise UserError(f"{what} {shown(str(value))} is no path: name a folder or file")
        if self._written:
            check_place(Path(value), folder=self._written == "folder")
        return Path(value)


PATH, OUT, OUT_FILE = Place(), Place("folder"), Place("file")


class Whole(click.ParamType[int]):
    """A whole number within bounds, written in digits."""

    name = "integer"

    def __init__(self, low: int, high: int = 2**63 - 1) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; see `click.ParamType.convert`."""
        text = str(value).strip()
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 20 and self._low <= int(text) <= self._high:
            return int(text)
        what = param.opts[0] if param else "value"
        bounds = f"from {self._low} to {self._high:,}" if self._low < 0 or self._high < 2**63 - 1 else ""
        must = bounds or f"of at least {self._low}"
        written = text if digits.isdecimal() and len(digits) < 20 else shown(str(value))
        raise UserError(f"{what} {written} is not a whole number {must}: give one")


class ImageCount(click.ParamType[Sample]):
    """How many images of a data set, and which: see `bench.core.samples`."""

    name = "[first:|stratified:]N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Sample:
        """The sample; see `click.ParamType.convert`."""
        return value if isinstance(value, Sample) else parse_sample(str(value))


COUNT = Whole(1)
IMAGES = ImageCount()
DRAWS = Whole(1, 10_000)
SEED = Whole(-(2**63))
