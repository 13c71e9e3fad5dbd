"""TOML files as plain tables."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from bench.core.files import one_line, read_content
from bench.core.types import UserError

_MOST = 1 << 22
_HEADER = re.compile(rb"\[+[ \t]*(\"[^\"\n]*\"|'[^'\n]*'|[A-Za-z0-9_-]+)")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: it cannot be read, or it is not TOML.
    """
    try:
        return parse_toml(read_content(path, _MOST).decode())
    except ValueError as fault:
        raise UserError(f"{path} is not TOML ({one_line(fault)}): correct that line") from fault


def read_tables(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The tables of a TOML file, and the faults of those that are not TOML, by name.

    In a damaged file each table, with the tables inside it, is read by itself, so that one costs no other.

    Raises:
        UserError: it cannot be read.
    """
    content = read_content(path, _MOST)
    try:
        return parse_toml(content.decode()), {}
    except ValueError:
        tables: dict[str, Any] = {}
        faults: dict[str, str] = {}
    for name, text in _pieces(content).items():
        try:
            tables |= parse_toml(text.decode())
        except ValueError as fault:
            faults[name] = f"{path}: {name or 'what stands before the first table'} is not TOML ({one_line(fault)})"
    return tables, faults


def _pieces(content: bytes) -> dict[str, bytes]:
    """The text of each table, those of the same first name together; what stands before the first has the name ""."""
    pieces: dict[str, bytes] = {}
    for part in re.split(rb"(?m)^(?=[ \t]*\[)", content):
        header = _HEADER.match(part.lstrip())
        name = header[1].decode(errors="replace").strip("\"'") if header else next(reversed(pieces), "")
        pieces[name] = pieces.get(name, b"") + part
    return pieces


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: it is not TOML, or its values are nested too deep.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None
