"""What probes found, beside the run they looked at: `probes/NAME.csv` and `probes/probes.json`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core import files
from bench.core.types import UserError
from bench.store.runs import Run, dump

_FOLDER, _RECORD = "probes", "probes.json"
_DIGITS = "%.6g"
_TEXT = ("attack", "norm", "points", "temperature")


def write(directory: Path, name: str, table: pd.DataFrame, about: Mapping[str, Any]) -> Path:
    """Store what a probe found, in place of what it found before, and how; return where. Numbers keep six digits.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    folder = directory / _FOLDER
    path = folder / f"{name}.csv"
    files.write_atomically(path, table.to_csv(index=False, lineterminator="\n", float_format=_DIGITS))
    (folder / f"{name}.csv.gz").unlink(missing_ok=True)
    known = record(directory) | {name: dict(about)}
    files.write_atomically(folder / _RECORD, dump(dict(sorted(known.items()))))
    return path


def record(directory: Path) -> dict[str, Any]:
    """How each probe of a run was made: its fields, the weights' sha256, package versions. Empty if there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / _FOLDER / _RECORD
    if not path.exists():
        return {}
    try:
        return dict(json.loads(files.read_content(path)))
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged: probe the run again") from None


def names(run: Run) -> list[str]:
    """The probes whose files lie beside a run."""
    folder = (run.directory or Path()) / _FOLDER
    paths = [] if run.directory is None else sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    return list(dict.fromkeys(path.name.removesuffix(".gz").removesuffix(".csv") for path in paths))


def read(run: Run, name: str) -> pd.DataFrame | None:
    """What a probe found in a stored run, or None; its file may be gzipped.

    Raises:
        UserError: the file is damaged.
    """
    if run.directory is None:
        return None
    folder = run.directory / _FOLDER
    path = next((place for place in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if place.exists()), None)
    if path is None:
        return None
    try:
        text = files.read_content(path).decode()
        return pd.read_csv(
            io.StringIO(text), dtype=dict.fromkeys(_TEXT, "str"), na_filter=True, keep_default_na=False, na_values=[""]
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is damaged ({files.one_line(error)}): probe the run again") from None
