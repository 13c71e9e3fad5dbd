"""What is said of the papers' tables and figures, read from `captions.toml` in the folder of each paper."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Caption:
    """A title in one sentence, notes on how to read a table, and headings that its columns' names do not make."""

    title: str
    notes: str = ""
    headings: Mapping[str, str] = field(default_factory=dict)


@cache
def captions(kind: str) -> Mapping[str, Caption]:
    """The captions of all "tables" or "figures" by their registered names, in the order of the names."""
    return dict(sorted(_captions(kind)))


def _captions(kind: str) -> Iterator[tuple[str, Caption]]:
    for path in Path(__file__).parent.glob("*/captions.toml"):
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = content.get(kind, {})
        for name, entry in entries.items():
            notes = entries[entry["notes_of"]]["notes"] if "notes_of" in entry else entry.get("notes", "")
            yield name, Caption(entry["title"], " ".join(notes.split()), content.get("headings", {}))
