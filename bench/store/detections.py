"""What a detector did, as plain files: a folder with `detect.json` (its record) and `scores.csv`.

A row of the scores is an image, fitted detector and attack. Each image belongs to one part alone: *fit* (the detector
was fitted on it), *calibration* (the threshold was set on it) or *test*. `attack` is "clean", "noise", an attack, or
"joint", the adaptive one. What numbers are made of them is in `bench.report.detection_measures`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.core import files
from bench.core.types import UserError
from bench.store import runs
from bench.store.runs import Run

SCHEMA_VERSION = 1
RECORD, SCORES = "detect.json", "scores.csv"
NOISE, JOINT = "noise", "joint"
PARTS = ("fit", "calibration", "test")
COLUMNS = (
    "part",
    "fit_attack",
    "attack",
    "index",
    "label",
    "clean_pred",
    "adv_pred",
    "norm",
    "eps",
    "size",
    "lawful",
    "broken",
    "score",
)
_TEXT = dict.fromkeys(("part", "fit_attack", "attack", "norm"), "str")


def write(directory: Path, record: Mapping[str, Any], scores: pd.DataFrame) -> Run:
    """Store a detection and return it as `load` would.

    Raises:
        UserError: the folder holds a detection or a run, or cannot be written.
    """
    if any((directory / name).exists() for name in (RECORD, SCORES, "run.json")):
        raise UserError(f"{directory} holds another run: choose another --out")
    files.write_atomically(directory / SCORES, scores[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))
    files.write_atomically(directory / RECORD, runs.dump({"schema_version": SCHEMA_VERSION, **record}))
    return load(directory)


def load(directory: Path) -> Run:
    """A stored detection as a run without verdicts: its record names the model and the data as any run's does.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    path = directory / RECORD
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{directory} holds no detection: there is no {RECORD} in it") from None
    except (OSError, ValueError):
        raise UserError(f"{path} is damaged: detect again") from None
    if record.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {record.get('schema_version')}: detect again with this version")
    return Run(runs.frame([]), record, directory)


def is_detection(run: Run) -> bool:
    """Whether a run holds scores of a detector in place of verdicts."""
    return "detector" in run.record and run.directory is not None


def scores(run: Run) -> pd.DataFrame:
    """The scores of a detection, columns `COLUMNS`; the file may be gzipped.

    Raises:
        UserError: the file is missing or damaged.
    """
    home = run.directory or Path()
    path = next((place for place in (home / SCORES, home / f"{SCORES}.gz") if place.exists()), home / SCORES)
    try:
        text = files.read_content(path).decode()
        table = pd.read_csv(io.StringIO(text), dtype=_TEXT, keep_default_na=False, na_values=["", "nan"])
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is damaged ({files.one_line(error)}): detect again") from None
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} has other columns than {','.join(COLUMNS)}: it is not a detection's")
    return table


QUANTILE = 0.95


def threshold(scores: Any) -> float:
    """The score that at most 5 % of calibration scores exceed; infinity without any, so that nothing is rejected."""
    known = np.sort(np.asarray(scores, np.float64))
    return float(np.quantile(known, QUANTILE, method="higher")) if len(known) else float("inf")
