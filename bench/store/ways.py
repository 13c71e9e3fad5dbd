"""`losses.csv`, beside the verdicts: how the search for each image went, for the audit.

Columns `COLUMNS`: an attack, norm, eps and image as in `verdicts.csv`, and the best margin (best wrong logit minus true
logit) that passes with a gradient met by the start, each quarter and the end of their number. Searches without
gradients have no row. The file may be deleted: nothing but the audit reads it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core import files
from bench.core.types import Verdict

if TYPE_CHECKING:
    import pandas as pd

FILE = "losses.csv"
_KEYS = ("attack", "norm", "eps", "index")
MARGINS = ("start", "quarter", "half", "three_quarters", "end")
COLUMNS = (*_KEYS, *MARGINS)
_HEADER = ",".join(COLUMNS) + "\n"

Way = Sequence[float]
"""Five margins; NaN where there was no search."""


def add(directory: Path, rows: Sequence[Verdict], ways: Sequence[Way]) -> None:
    """Add the ways of rows that are about to be stored.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    path, text = directory / FILE, _lines(rows, ways)
    if text:
        with files.explained(path), path.open("a", encoding="utf-8") as file:
            file.write(text)


def settle(directory: Path, order: Iterable[tuple[str, str, str, int]]) -> None:
    """Leave the last line of each trial, in the order of `order` (trials as rows name them); whole lines alone."""
    path = directory / FILE
    if not path.is_file():
        return
    known = {}
    for cells in csv.reader(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        if len(cells) == len(COLUMNS) and cells[3].isascii() and cells[3].isdigit() and len(cells[3]) < 19:
            known[cells[0], cells[1], cells[2], int(cells[3])] = cells
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(known[trial] for trial in order if trial in known)
    files.write_atomically(path, _HEADER + text.getvalue())


def load(directory: Path | None) -> pd.DataFrame | None:
    """The ways of a run, or None if it has none that can be read."""
    import pandas as pd

    if directory is None or not (directory / FILE).is_file():
        return None
    try:
        table = pd.read_csv(directory / FILE, dtype={"attack": "str", "norm": "str", "eps": "float64"})
    except (ValueError, OSError):
        return None
    return table if tuple(table.columns) == COLUMNS else None


def frame(rows: Sequence[Verdict], ways: Sequence[Way]) -> pd.DataFrame:
    """Ways as the table that `load` would read back."""
    import pandas as pd

    text = _HEADER + _lines(rows, ways)
    return pd.read_csv(io.StringIO(text), dtype={"attack": "str", "norm": "str", "eps": "float64"})


def _lines(rows: Sequence[Verdict], ways: Sequence[Way]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row, way in zip(rows, ways, strict=True):
        if not math.isnan(way[-1]):
            eps = "" if row.eps is None else repr(float(row.eps))
            writer.writerow([row.attack, row.norm, eps, row.index, *(f"{margin:.6g}" for margin in way)])
    return text.getvalue()
