"""TOML files as plain tables."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.core.files import one_line
from bench.core.types import UserError


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: it cannot be read, or it is not TOML.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise UserError(f"{path} cannot be read ({one_line(fault)}): check the path") from fault
    except ValueError as fault:
        raise UserError(f"{path} is not TOML ({one_line(fault)}): correct that line") from fault


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        ValueError: it is not TOML, or its values are nested too deep.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None
