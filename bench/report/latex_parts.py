"""How a table is cut to fit pages: into parts side by side no wider than the text, and into floats no longer than it.

A page is A4 in the class `article`: 345 pt by 592 pt, or 79 digits by 52 lines of `\\footnotesize` under a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report.latex_columns import GAP, Group

ROOM = 79.0
LINES = 52
_LONGEST = 44
_AROUND = 4
"""Lines of rules, headings and space around the rows of a part."""


@dataclass(frozen=True)
class Part:
    """Some columns and some rows of a table, one tabular; `data` names the data set of every row of the table."""

    groups: tuple[Group, ...]
    rows: tuple[int, ...]
    data: tuple[str, ...] = ()

    @property
    def lines(self) -> int:
        """About how many lines it takes."""
        return sum(_lines(self.groups, row) for row in self.rows) + len(self.places) + _AROUND

    @property
    def places(self) -> list[str]:
        """The data sets of its rows."""
        return list(dict.fromkeys(self.data[row] for row in self.rows)) if self.data else []

    @property
    def is_too_wide(self) -> bool:
        """Whether it is wider than the text of a page, as one column may be with those that say whose it is."""
        return _width(self.groups) > ROOM


def parts(groups: Sequence[Group], count: int) -> list[Part]:
    """A table of `count` rows in parts: all rows in the first, in others those that have something to say."""
    data: tuple[str, ...] = ()
    if len(groups) > 1 and groups[0].is_key and groups[0].name == "data":
        data, groups = groups[0].columns[0].cells, groups[1:]
    keys = [group for group in groups if group.is_key]
    cut = _cut(groups, keys, count)
    result = []
    for number, numbers in enumerate(cut):
        chosen = _with_keys(keys, numbers, count, is_first=not number)
        rows = _filled(numbers, count) if number else list(range(count))
        result += [Part(tuple(chosen), tuple(some), data) for some in _chunks(chosen, rows)]
    return result


def pages(cut: Sequence[Part], noted: int) -> list[list[Part]]:
    """Parts by the float they stand in; the last float also holds `noted` lines of notes."""
    result: list[list[Part]] = []
    for number, part in enumerate(cut):
        lines = part.lines + (noted if number == len(cut) - 1 else 0)
        if result and sum(other.lines for other in result[-1]) + lines <= LINES:
            result[-1].append(part)
        else:
            result.append([part])
    return result


def _cut(groups: Sequence[Group], keys: Sequence[Group], count: int) -> list[list[Group]]:
    """The columns of every part without keys: as few parts as it takes, about equally wide."""
    fewest = len(_packed(groups, keys, count, ROOM))
    for room in range(int(ROOM / 2), int(ROOM)):
        cut = _packed(groups, keys, count, room)
        if len(cut) == fewest and all(_fits(keys, cut, number, count, ROOM) for number in range(len(cut))):
            return cut
    return _packed(groups, keys, count, ROOM)


def _packed(groups: Sequence[Group], keys: Sequence[Group], count: int, room: float) -> list[list[Group]]:
    cut: list[list[Group]] = [[]]
    for group in groups:
        if group.is_key:
            continue
        wider = [*cut[:-1], [*cut[-1], group]]
        if cut[-1] and not _fits(keys, wider, len(cut) - 1, count, room):
            cut.append([group])
        else:
            cut = wider
    return cut


def _fits(keys: Sequence[Group], cut: Sequence[Sequence[Group]], number: int, count: int, room: float) -> bool:
    return _width(_with_keys(keys, cut[number], count, is_first=not number)) <= room


def _with_keys(keys: Sequence[Group], numbers: Sequence[Group], count: int, is_first: bool) -> list[Group]:
    """Columns after those that say which row it is: after the first part the model alone, if that is enough."""
    rows = _filled(numbers, count)
    for key in keys if not is_first else ():
        names = [key.columns[0].cells[row] for row in rows]
        if key.name == "model" and all(names) and len(set(names)) == len(names):
            return [key, *numbers]
    return [*keys, *numbers]


def _filled(numbers: Sequence[Group], count: int) -> list[int]:
    return [row for row in range(count) if any(group.is_filled(row) for group in numbers)]


def _chunks(groups: Sequence[Group], rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows in portions that fit a page."""
    chunk: list[int] = []
    for row in rows:
        if chunk and sum(_lines(groups, other) for other in (*chunk, row)) > _LONGEST:
            yield chunk
            chunk = []
        chunk.append(row)
    yield chunk


def _lines(groups: Sequence[Group], row: int) -> int:
    return max(column.line_count(row) for group in groups for column in group.columns)


def _width(groups: Sequence[Group]) -> float:
    return sum(group.width for group in groups) - GAP
