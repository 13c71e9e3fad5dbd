"""How tables are written for people: the headings of their columns and the text of their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

_HEADINGS = {
    "clean_accuracy": "clean %",
    "robust_accuracy": "robust %",
    "ci_low": "95% low",
    "ci_high": "95% high",
    "success_rate": "success %",
    "seconds": "time (s)",
}


def heading(name: str, headings: Mapping[str, str] | None = None) -> str:
    """The heading of a column: its own among `headings`, or one made from its name."""
    known = _HEADINGS | dict(headings or {})
    if name in known:
        return known[name]
    stem, _, kind = name.rpartition("_")
    if stem and kind in ("published", "low", "high"):
        return f"{heading(stem, headings)} {kind}"
    return name.replace("_accuracy", " %").replace("_", " ")


def cell(name: str, value: Any, written: Mapping[float, str]) -> str:
    """A value of the column `name` as text; `written` gives eps as the user wrote it."""
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value
    if name == "eps":
        return written.get(float(value)) or f"{value:.6g}"
    if is_fraction(name):
        return f"{100 * value:.2f}"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return bool(pd.isna(value)) or value == ""


def is_fraction(name: str) -> bool:
    """Whether a column holds fractions, which are shown as percents."""
    return "accuracy" in name or "_rate" in name or name.startswith("ci_")


def is_number(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, which stand on the right."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
