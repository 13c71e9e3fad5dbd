"""Words of users and of errors as one short line of text."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_LONGEST = 100
_UNPRINTED = ("Cc", "Cf", "Cs", "Zl", "Zp")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_IN_FILE_NAMES = re.compile(r"[^\w.+=,@()-]+")


def shown(value: Any) -> str:
    """A value as an error quotes it: its `repr` on one line, cut short where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int with more digits than Python writes; something nested too deep
        return f"a {type(value).__name__} too large to write"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}... ({len(text)} characters)"


def is_plain(text: str) -> bool:
    """Whether a text is one line that says what it shows: no control character, no mark that turns or hides letters."""
    return not any(unicodedata.category(letter) in _UNPRINTED for letter in text)


def as_file_name(text: str) -> str:
    """A text as the name of a file in a folder, never as a path out of it."""
    return _IN_FILE_NAMES.sub("-", text).lstrip(".") or "-"


def without_tags(text: str) -> str:
    """Markdown in which nothing begins an HTML tag: a name in it may be anybody's."""
    return _TAG.sub("&lt;", text)
