"""What a detector did, as plain files: a folder with `detect.json` (its record) and `scores.csv`.

A row of the scores is an image, fitted detector and attack. Each image belongs to one part alone: *fit* (the detector
was fitted on it), *calibration* (the threshold was set on it) or *test*. `attack` is "clean", "noise", an attack, or
"joint", the adaptive one. What numbers are made of them is in `bench.report.detection_measures`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from bench.core import files
from bench.core.types import Norm, UserError
from bench.store import runs
from bench.store.json_records import JsonRecord
from bench.store.record import ModelRecord, Record, Session, ThreatRecord, read_json
from bench.store.runs import Run

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


@dataclass(frozen=True, kw_only=True)
class JointEntry(JsonRecord):
    """The joint attack on classifier and detector: its name in the rows, and its fields."""

    spec: str = JOINT
    name: str = JOINT
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class EncoderEntry(ModelRecord):
    """The model whose features a detector looks at: which one, and how it was trained."""

    arch: str = field(init=False, default="")
    args: Mapping[str, Any] = field(init=False, default_factory=dict)
    trained_for: ThreatRecord | None = field(init=False, default=None)


@dataclass(frozen=True, kw_only=True)
class DetectorEntry(JsonRecord):
    """A detector as it was asked for, the model whose features it looks at, and what fitting it to each attack gave.

    `thresholds` and `noise` (the mean size of the noise that it was fitted on) are by the attack that it was fitted on;
    other facts, such as a bandwidth, are each detector's own and stand in `unknown`.
    """

    spec: str
    name: str
    fields: Mapping[str, Any]
    encoder: EncoderEntry
    joint: JointEntry
    thresholds: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DetectionRecord(Record):
    """The contents of a `detect.json`: a run's record whose budget is its `threat`, without what rows of verdicts need.

    The fields of a run that it does not have keep their defaults; `norm` is the threat's.
    """

    LAST: ClassVar[tuple[str, ...]] = ("seconds",)

    norm: Norm = field(init=False)
    eps: float | None = field(init=False, default=None)
    eps_written: str | None = field(init=False, default=None)
    eps_grid: tuple[tuple[float, str], ...] | None = field(init=False, default=None)
    eps_order: str | None = field(init=False, default=None)
    save_adversarial: bool = field(init=False, default=False)
    forced: tuple[str, ...] = field(init=False, default=())
    attack_seconds: Mapping[str, float] = field(init=False, default_factory=dict)
    forwards: int = field(init=False, default=0)
    backwards: int = field(init=False, default=0)
    finished: bool = field(init=False, default=True)
    resumed: tuple[Session, ...] = field(init=False, default=())
    threat: ThreatRecord
    detector: DetectorEntry

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", self.threat.norm)

    @classmethod
    def of(cls, record: Record, threat: ThreatRecord, detector: DetectorEntry, seconds: float) -> Self:
        """The record of a detection whose attacks were planned as those of a run are."""
        taken = [known.name for known in fields(cls) if known.init and hasattr(record, known.name)]
        shared = {name: getattr(record, name) for name in taken if name != "seconds"}
        return cls(**shared, threat=threat, detector=detector, seconds=seconds)


@dataclass(frozen=True)
class Detection(Run):
    """A stored detection: a run without verdicts, with scores in their place."""

    record: DetectionRecord


def write(directory: Path, record: DetectionRecord, scores: pd.DataFrame) -> Detection:
    """Store a detection and return it as `load` would.

    Raises:
        UserError: the folder holds a detection or a run, or cannot be written.
    """
    if any((directory / name).exists() for name in (RECORD, SCORES, "run.json")):
        raise UserError(f"{directory} holds another run: choose another --out")
    files.write_atomically(directory / SCORES, scores[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))
    files.write_atomically(directory / RECORD, runs.dump(record.to_dict()))
    return load(directory)


def load(directory: Path) -> Detection:
    """A stored detection; its record names the model and the data as any run's does.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    path = directory / RECORD
    values = read_json(path, f"{directory} holds no detection: there is no {RECORD} in it")
    return Detection(runs.frame([]), DetectionRecord.from_dict(values, str(path)), directory)


def scores(run: Detection) -> pd.DataFrame:
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
