"""The tables that lie beside a run, against those that its rows give."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.report import run_table
from bench.store.runs import Run

_NAMES = tuple(f"{stem}.{kind}" for stem in ("table", "curve") for kind in ("csv", "tex", "md"))
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_TOKENS = {".tex": re.compile(_NUMBER), ".csv": re.compile(rf"{_NUMBER}|[^\W\d_]+")}
_TOKENS[".md"] = _TOKENS[".csv"]
_ROUNDING = 1e-9


def present(run: Run) -> list[str]:
    """The names of the tables beside a run."""
    return [name for name in _NAMES if run.directory and (run.directory / name).is_file()]


def faults(run: Run) -> Iterator[str]:
    """The tables beside a run that its rows do not give, and the first place where they differ, as texts.

    Numbers count, and words but in LaTeX: the signs between them, and notes, later versions may set otherwise.
    """
    home = run.directory or Path()
    with TemporaryDirectory() as place:
        again = Path(place)
        run_table.write(run, again)
        if run.record.eps_grid:
            run_table.write_curve(run, again)
        for name in present(run):
            wanted = (again / name).read_text(encoding="utf-8") if (again / name).is_file() else ""
            stored = (home / name).read_text(encoding="utf-8", errors="replace")
            if (where := _first_difference(stored, wanted, _TOKENS[Path(name).suffix])) is not None:
                yield f"{home / name} is not what the rows give: {where}"


def _first_difference(stored: str, wanted: str, token: re.Pattern[str]) -> str | None:
    ours, theirs = token.findall(wanted), token.findall(stored)
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other and not _close(mine, other):
            return f"{other!r} stands where they give {mine!r}"
    return None if len(ours) == len(theirs) else "it is longer or shorter"


def _close(mine: str, other: str) -> bool:
    try:
        return math.isclose(float(mine), float(other), rel_tol=_ROUNDING)
    except ValueError:
        return False
