"""The papers' own numbers, read from `published.toml`: what measured numbers stand beside."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd

from bench.types import UserError

_PACKAGE = Path(__file__).parent.parent
_PLACES = (_PACKAGE / "builtin" / "published.toml", _PACKAGE.parent / "results" / "published.toml")


def load(path: Path | None = None) -> pd.DataFrame:
    """Every published number, a row each, in the papers' order.

    Columns: paper, table, kind, dataset, model, defense, variant, attack, params, metric, value, unit, relation,
    setting_source; empty where the file says nothing.

    Raises:
        UserError: the file is missing or damaged.
    """
    found = next((place for place in ([path] if path else _PLACES) if place.exists()), None)
    if found is None:
        raise UserError("published.toml is missing: reinstall bench, or run it from its checkout")
    try:
        content = tomllib.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{found} cannot be read ({str(error).splitlines()[0]})") from None
    return pd.DataFrame(content.get("number", [])).astype({"value": "object"})


def results(numbers: pd.DataFrame, paper: str, table: str) -> pd.DataFrame:
    """The results of one table of one paper, such as "MAT-002" and "4"."""
    wanted = (numbers["paper"] == paper) & (numbers["table"] == table) & (numbers["kind"] == "result")
    return numbers[wanted].reset_index(drop=True)
