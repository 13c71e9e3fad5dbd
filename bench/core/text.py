"""Words of users and of errors as one short line of text."""

from __future__ import annotations

from typing import Any

_LONGEST = 100


def shown(value: Any) -> str:
    """A value as an error quotes it: its `repr` on one line, cut short where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int with more digits than Python writes; something nested too deep
        return f"a {type(value).__name__} too large to write"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}... ({len(text)} characters)"
