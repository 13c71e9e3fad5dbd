"""What is said about a table beside its columns: how it was measured, in the notes instead of in every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pandas as pd

from bench.report.columns import cell, heading, is_missing

_LIMITS = ("_low", "_high")
_GROUPS = ("data", "attack")
"""The columns that settings may depend on and still be stated in a note, a value for each of their entries."""

_EXCEPTIONS = 0.25
"""The greatest share of rows that may differ from what a note says of their data set, and be named in it."""


def stated(table: pd.DataFrame) -> list[str]:
    """The columns that a terminal is spared: counts, steps and limits."""
    return [name for name in table.columns if is_setting(name) or name.endswith(_LIMITS)]


def is_setting(name: str) -> bool:
    """Whether a column says how something was measured: on how many images, with how many steps."""
    return name in ("n", "steps") or name.endswith(("_n", "_steps"))


def settings(
    table: pd.DataFrame, written: Mapping[float, str], headings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The settings that a note can state, by column: the same everywhere, or by data set or attack with few exceptions.

    A setting that nothing determines is not among them: its column must stay. One without any value has an empty note.
    """
    names = list(table.columns)
    # An eps that stands before the model tells rows apart.
    is_key = "model" in names and "eps" in names and names.index("eps") < names.index("model")
    notes = {}
    for name in names:
        if is_setting(name) or (name == "eps" and not is_key):
            rows = table.iloc[[place for place, value in enumerate(table[name]) if not is_missing(value)]]
            values = [cell(name, value, written) for value in rows[name]]
            label = "ε" if name == "eps" else heading(name, headings)
            if (said := _said(values, rows)) is not None:
                notes[name] = f"{label} = {said}" if said else ""
    return notes


def _said(values: list[str], rows: pd.DataFrame) -> str | None:
    """One value, or each with what it belongs to; None if neither data set nor attack determines it."""
    if len(set(values)) <= 1:
        return "".join(values[:1])
    for group in _GROUPS:
        if group not in rows.columns:
            continue
        entries = [str(entry) for entry in rows[group]]
        usual = {entry: _most(entries, values, entry) for entry in entries}
        rest = [place for place, entry in enumerate(entries) if values[place] != usual[entry]]
        if not rest:
            return _listed(usual)
        if "model" in rows.columns and len(rest) <= _EXCEPTIONS * len(values):
            models = [str(model) for model in rows["model"]]
            other = {models[place]: values[place] for place in rest}
            if all(values[place] == other.get(model, values[place]) for place, model in enumerate(models)):
                return f"{_listed(usual)}; but {_listed(other)}"
    return None


def _most(entries: list[str], values: list[str], entry: str) -> str:
    """The value that an entry has most often."""
    return Counter(value for place, value in zip(entries, values, strict=True) if place == entry).most_common(1)[0][0]


def _listed(known: Mapping[str, str]) -> str:
    """Values, each with what it belongs to in brackets."""
    places: dict[str, list[str]] = {}
    for place, value in known.items():
        places.setdefault(value, []).append(place)
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in places.items())
