"""Finished runs by their folders, and those among stored ones that are of the same model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.core.types import UserError
from bench.store import behaviour
from bench.store import runs as store
from bench.store.record import Record
from bench.store.runs import Run


def is_of(record: Record, like: Record) -> bool:
    """Whether a run is of the same model, on the same data and in the same norm as another, by what its record says."""
    keys = ("weights_sha256", "data", "split", "data_sha256", "norm")
    if any(getattr(record, key) != getattr(like, key) for key in keys) or behaviour.between(like, record):
        return False
    return bool(like.weights_sha256) or record.model == like.model


def load_finished(places: Sequence[Path], skipped: Callable[[str], None]) -> list[Run]:
    """The runs in some folders; of several, one that is damaged or not finished is left out.

    Raises:
        UserError: none is left.
    """
    made, faults = list[Run](), list[UserError]()
    for place in dict.fromkeys(places):
        try:
            made.append(store.load(place, finished=True))
        except UserError as fault:
            faults.append(fault)
            if len(places) > 1:
                skipped(f"skipped {place}: {fault}")
    if made:
        return made
    raise faults[0] if len(faults) == 1 else UserError(f"none of the {len(faults)} runs can be scored: name others")


def load_like(folders: Sequence[Path], runs: Sequence[Run], skipped: Callable[[str], None]) -> list[Run]:
    """The finished runs at or below some folders that are of the same model as `runs`, without these.

    Args:
        folders: of runs, or of such folders.
        runs: of one model.
        skipped: told of each run that is damaged or not finished.
    """
    known, made = {run.directory.resolve() for run in runs if run.directory}, list[Run]()
    for path in dict.fromkeys(path.parent for folder in folders for path in sorted(folder.rglob("run.json"))):
        if path.resolve() in known:
            continue
        try:
            if is_of(store.read_record(path), runs[0].record):
                made.append(store.load(path, finished=True))
                known.add(path.resolve())
        except UserError as fault:
            skipped(f"skipped {path}: {fault}")
    return made
