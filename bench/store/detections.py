"""What a detector did, as plain files: a folder with `detect.json` (its record) and `scores.csv`.

A row of the scores is an image, fitted detector and attack. Each image belongs to one part alone: *fit* (the detector
was fitted on it), *calibration* (the threshold was set on it) or *test*. `attack` is "clean", "noise", an attack, or
"joint", the adaptive one. What numbers are made of them is in `bench.report.detection_measures`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from bench.core import files
from bench.core.text import is_plain, shown
from bench.core.types import Norm, UserError
from bench.store import runs, signature
from bench.store.continuation import MUST_MATCH, first_difference
from bench.store.json_records import JsonRecord, optional
from bench.store.lock import FolderLock
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
    scores_sha256: str = optional("")

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


class Writer:
    """Holds a folder for a detection that is under way; `open_folder` makes one, `write` ends it."""

    def __init__(self, directory: Path, lock: FolderLock) -> None:
        self.directory = directory
        self._lock = lock

    def write(self, record: DetectionRecord, scores: pd.DataFrame) -> Detection:
        """Store the detection and return it as `load` would; the record comes last, so that it is there or not.

        Raises:
            UserError: the folder cannot be written.
        """
        text = scores[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
        files.write_atomically(self.directory / SCORES, text)
        record = replace(record, scores_sha256=signature.of_rows(text.encode()))
        files.write_atomically(self.directory / RECORD, runs.dump(record.to_dict()))
        return load(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def open_folder(directory: Path) -> Writer:
    """Take a folder for a new detection; what one that was killed left there is replaced.

    Raises:
        UserError: it holds a detection or a run, another process writes to it, or it cannot be written.
    """
    lock = FolderLock.take(directory)
    if any((directory / name).exists() for name in (RECORD, "run.json", "verdicts.csv", "verdicts.csv.gz")):
        lock.release()
        remedy = ", or keep it with --resume" if (directory / RECORD).exists() else ""
        raise UserError(f"{directory} holds another run: choose another --out{remedy}")
    return Writer(directory, lock)


def write(directory: Path, record: DetectionRecord, scores: pd.DataFrame) -> Detection:
    """Store a detection and return it as `load` would.

    Raises:
        UserError: the folder holds a detection or a run, or cannot be written.
    """
    with open_folder(directory) as folder:
        return folder.write(record, scores)


_MUST_MATCH = ("threat", *(key for key in MUST_MATCH if key in {known.name for known in fields(DetectionRecord)}))


def again(directory: Path, asked: DetectionRecord, fitted_on: Sequence[str]) -> Detection | None:
    """The detection of a folder where it is the one that is asked for; None where the folder holds none.

    Raises:
        UserError: another detector, model, attack list, data set or budget; the text names the first that differs.
    """
    if not (directory / RECORD).exists():
        return None
    stored = load(directory)
    old, new = stored.record, DetectionRecord.from_dict(json.loads(json.dumps(asked.to_dict())))
    other = first_difference(old, new, _MUST_MATCH)
    if (old.detector.spec, old.detector.fields) != (new.detector.spec, new.detector.fields):
        other = f"the detector {old.detector.spec}, not {new.detector.spec}"
    elif old.detector.encoder != new.detector.encoder:
        other = "another encoder"
    elif set(old.detector.thresholds) != set(fitted_on):
        other = f"a detector fitted on {', '.join(old.detector.thresholds)}, not {', '.join(fitted_on)}"
    if other:
        raise UserError(f"{directory} was made with {other}: choose another --out")
    return stored


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
        UserError: the file is missing, damaged, or edited since the detection ended.
    """
    home = run.directory or Path()
    path = next((place for place in (home / SCORES, home / f"{SCORES}.gz") if place.exists()), home / SCORES)
    content = files.read_content(path)
    try:
        table = pd.read_csv(io.StringIO(content.decode()), dtype=_TEXT, keep_default_na=False, na_values=["", "nan"])
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is damaged ({files.one_line(error)}): detect again") from None
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"{path} has other columns than {','.join(COLUMNS)}: it is not a detection's")
    if run.record.scores_sha256 not in ("", signature.of_rows(content)):
        raise UserError(f"{path} was edited after the detection ended: {RECORD} holds another sha256; detect again")
    for column in ("fit_attack", "attack"):
        if unprintable := [name for name in table[column].dropna().unique() if not is_plain(name)]:
            raise UserError(f"{path} is damaged: {column} {shown(unprintable[0])} holds a control character")
    return table


QUANTILE = 0.95


def threshold(scores: Any) -> float:
    """The score that at most 5 % of calibration scores exceed; infinity without any, so that nothing is rejected."""
    known = np.sort(np.asarray(scores, np.float64))
    return float(np.quantile(known, QUANTILE, method="higher")) if len(known) else float("inf")
