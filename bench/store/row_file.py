"""The lines of a `verdicts.csv` that is being written: what is whole of it, and its order in the end."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from bench.core import files
from bench.store import runs
from bench.store.record import Record


def trial_of(row: list[str]) -> runs.Trial:
    """What a line is about, from its cells."""
    cells = dict(zip(runs.COLUMNS, row, strict=True))
    return cells["attack"], cells["norm"], cells["eps"], int(cells["index"])


def whole_rows(path: Path) -> list[list[str]]:
    """Cut a torn last line off, and return the rows that are left."""
    content = path.read_bytes() if path.exists() else b""
    whole = runs.whole_lines(content)
    if not whole:
        files.write_atomically(path, runs.HEADER)
        return []
    if whole != content:
        with files.explained(path):
            os.truncate(path, len(whole))
    runs.parse(whole.decode(), str(path))
    return list(csv.reader(whole.decode().splitlines()))[1:]


def write_all(file: int, data: bytes) -> None:
    """Write to an open file, however often the system takes only a part."""
    while data:
        data = data[os.write(file, data) :]


def sort(path: Path, record: Record) -> None:
    """Put the lines of a file in the order of the record: by attack, eps and image, whoever made them when."""
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
