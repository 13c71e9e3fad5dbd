"""The lines of a `verdicts.csv` that is being written: what is whole of it, and its order in the end."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core import files
from bench.core.types import UserError
from bench.store import runs, signature
from bench.store.consistency import row_faults
from bench.store.record import Record

_NAMED = 5
"""How many dropped lines a message names."""


@dataclass(frozen=True)
class Kept:
    """The rows of a file that a run goes on from, as cells, and what is to be said of those that it does not."""

    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def trial_of(row: list[str]) -> runs.Trial:
    """What a line is about, from its cells."""
    cells = dict(zip(runs.COLUMNS, row, strict=True))
    return cells["attack"], cells["norm"], cells["eps"], int(cells["index"])


def kept_rows(path: Path, record: Record) -> Kept:
    """Leave in a file the rows of a run that are whole, each once, so that the others are made again.

    A line that is no row, or that is of no trial of the run, is dropped, and said so. Nothing is changed where the rows
    that are left contradict each other.

    Raises:
        UserError: rows were edited: they contradict each other, or the signature of the run, which lacks none.
    """
    content = runs.read_rows(path.parent, record) if path.is_file() else b""
    header, *lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1] or [b""]
    rows, dropped = _sorted_out(lines, record)
    if header != runs.HEADER.strip().encode():
        if lines and not rows:
            raise UserError(f"{path} has other columns than {runs.HEADER.strip()}: it is not a run's")
        dropped = {1: "not the header", **dropped} if lines else dropped
    again = runs.HEADER.encode() + b"".join(lines[place] + b"\n" for place in rows)
    _refuse_edited(path, again, list(rows), record)
    is_whole = len(rows) == runs.wanted(record) and not dropped
    if is_whole and record.verdicts_sha256 not in ("", signature.of_rows(again)):
        remedy = "give back the file as it was, or make the run again in another --out"
        raise UserError(f"{path} was edited after the run ended: run.json holds another sha256; {remedy}")
    if again != content:
        files.write_atomically(path, again)
    return Kept(list(rows.values()), tuple(_told(path, dropped)))


def _sorted_out(lines: list[bytes], record: Record) -> tuple[dict[int, list[str]], dict[int, str]]:
    """The rows among lines, each once, by place; and by number in the file why a line is none."""
    trials = set(runs.trials(record))
    rows, dropped, known = dict[int, list[str]](), dict[int, str](), set[bytes]()
    for place, line in enumerate(lines):
        if line in known:
            continue
        cells = _cells(line)
        if cells is None:
            dropped[place + 2] = "no row"
        elif trial_of(cells) not in trials:
            dropped[place + 2] = "a row of another run"
        else:
            known.add(line)
            rows[place] = cells
    return rows, dropped


def _cells(line: bytes) -> list[str] | None:
    """The cells of a line, or None if it is no row as `runs.lines` writes it."""
    try:
        (cells,) = csv.reader([line.decode()])
        table = dict(zip(runs.COLUMNS, cells, strict=True))
        for name, value in table.items():
            if _canonical(name, value) != value:
                return None
    except (ValueError, csv.Error):
        return None
    return cells


def _canonical(name: str, value: str) -> str:
    """A cell as it would be written.

    Raises:
        ValueError: it is not of its column's kind.
    """
    kind = runs.KINDS[name]
    if kind == "bool":
        return str(value == "True")
    if kind == "int64":
        return str(int(value)) if abs(int(value)) < 1 << 63 else ""
    return repr(float(value)) if kind == "float64" and value else value


def _refuse_edited(path: Path, content: bytes, places: list[int], record: Record) -> None:
    table = runs.parse(content.decode(), str(path))
    table.index = places
    for fault in row_faults(table, record):
        remedy = "delete that line, and --resume makes it again"
        raise UserError(f"{path} was edited: {fault}; {remedy}")


def _told(path: Path, dropped: dict[int, str]) -> Iterator[str]:
    if dropped:
        named = ", ".join(f"line {number} ({why})" for number, why in list(dropped.items())[:_NAMED])
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        yield f"{path} is damaged: dropped {named}{more}; rows that are missing are made again"


def write_all(file: int, data: bytes) -> None:
    """Write to an open file, however often the system takes only a part."""
    while data:
        data = data[os.write(file, data) :]


def sort(path: Path, record: Record) -> bytes:
    """Put the lines of a file in the order of the record: by attack, eps and image; return its bytes."""
    attacks = {label: place for place, label in enumerate(record.labels)}
    images = {index: place for place, index in enumerate(record.indices)}
    content = path.read_text(encoding="utf-8")
    header, *lines = content.splitlines(keepends=True)

    def place(line: str) -> tuple[float, str, str, float, float, int]:
        attack, norm, eps, index = trial_of(next(csv.reader([line])))
        return (
            attacks.get(attack, len(attacks)),
            attack,
            norm,
            float(eps or -1),
            images.get(index, len(images)),
            index,
        )

    ordered = header + "".join(sorted(lines, key=place))
    if ordered != content:
        files.write_atomically(path, ordered)
    return ordered.encode()
