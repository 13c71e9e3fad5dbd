"""The papers' own numbers, read from `published.toml`: what measured numbers stand beside."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd

from bench.core.types import UserError

_NUMBERS = Path(__file__).with_name("published.toml")


def load(path: Path | None = None) -> pd.DataFrame:
    """Every published number, a row each, in the papers' order.

    Columns: paper, table, kind, dataset, model, defense, variant, attack, params, metric, value, unit, relation,
    setting_source; empty where the file says nothing.

    Raises:
        UserError: the file is missing or damaged.
    """
    numbers = path or _NUMBERS
    try:
        content = tomllib.loads(numbers.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{numbers} cannot be read ({str(error).splitlines()[0]}): reinstall bench") from None
    return pd.DataFrame(content.get("number", [])).astype({"value": "object"})


def results(numbers: pd.DataFrame, paper: str, table: str) -> pd.DataFrame:
    """The results of one table of one paper, such as "MAT-002" and "4"."""
    wanted = (numbers["paper"] == paper) & (numbers["table"] == table) & (numbers["kind"] == "result")
    return numbers[wanted].reset_index(drop=True)
