"""What the caption of a paper's table says: what the columns mean, and for each measured row what stands behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.render import heading, is_fraction

_LIMITS = ("_low", "_high")


def stated(table: pd.DataFrame) -> list[str]:
    """The columns that the caption states, so that LaTeX need not: counts, steps and limits."""
    return [name for name in table.columns if _is_setting(name) or name.endswith(_LIMITS)]


def caption(about: str, table: pd.DataFrame, written: Mapping[float, str]) -> str:
    """A table's own words `about` it, then n, eps, steps and 95 % limits of every row that has a model."""
    lines = [_row(line, written) for line in table.to_dict("records") if _is_there(line.get("model"))]
    measured = f" Measured, with 95% limits: {'; '.join(lines)}." if lines else " Nothing was measured yet."
    return " ".join(about.split()) + measured


def _row(line: Mapping[Any, Any], written: Mapping[float, str]) -> str:
    settings = [f"{heading(name)} = {line[name]}" for name in line if _is_setting(name) and _is_there(line[name])]
    if _is_there(line.get("eps")):
        settings.insert(0, f"ε = {written.get(float(line['eps'])) or format(line['eps'], '.6g')}")
    name = " ".join(str(line[key]) for key in ("model", "detector", "attack") if key in line)
    ends = [
        stem for stem in (key.removesuffix("_low") for key in line if key.endswith("_low")) if _is_there(line[stem])
    ]
    limits = ", ".join(_limits(line, stem) for stem in ends)
    return f"{name} ({line['data']}, {', '.join(settings)}) {limits}".rstrip()


def _limits(line: Mapping[Any, Any], stem: str) -> str:
    values, fraction = [line[f"{stem}{end}"] for end in _LIMITS], is_fraction(stem)
    written = "–".join(f"{100 * value:.2f}" if fraction else f"{value:.4g}" for value in values)
    return f"{heading(stem).removesuffix(' %')} {written}{' %' * fraction}"


def _is_setting(name: str) -> bool:
    return name in ("n", "steps") or name.endswith(("_n", "_steps"))


def _is_there(value: Any) -> bool:
    return bool(pd.notna(value)) and value != ""
