"""Words of users and of errors as short lines of text that a terminal can show."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_LONGEST = 100
_LONGEST_WORD = 400
_KEPT = "\n\t\r"
_SPELLED = {"ε": "eps", "≤": "<=", "≥": ">=", "×": "x", "→": "->", "−": "-", "–": "-", "…": "..."}
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


def shortened(line: str) -> str:
    """A line whose words are cut in the middle where they are longer than any that is meant, such as endless paths."""
    cut = _LONGEST_WORD // 2
    return re.sub(rf"\S{{{_LONGEST_WORD + 1},}}", lambda word: f"{word[0][:cut]}...{word[0][-cut:]}", line)


def printable(text: str, encoding: str | None = None) -> str:
    """Text of which no letter commands a terminal: control characters are written as escapes.

    Args:
        text: lines may end and have tabs.
        encoding: what it will be written in; letters that this lacks are spelled in ASCII.
    """
    safe = "".join(letter if letter.isprintable() or letter in _KEPT else ascii(letter)[1:-1] for letter in text)
    try:
        safe.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(letter if letter.isascii() else _SPELLED.get(letter, ascii(letter)[1:-1]) for letter in safe)
    return safe
