"""Writing a run while it goes on, and going on with one that was stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.core import files
from bench.core.types import UserError, Verdict
from bench.store import images as adversarial
from bench.store import row_file, runs
from bench.store.lock import FolderLock
from bench.store.record import Record, Session

MUST_MATCH = (
    "model",
    "weights_sha256",
    "data",
    "split",
    "data_sha256",
    "indices",
    "attacks",
    "norm",
    "eps",
    "eps_written",
    "eps_grid",
    "eps_order",
    "seed",
    "device",
    "dtype",
    "search_dtype",
    "eot",
    "draws",
    "backward",
    "backward_sha256",
    "batch_size",
    "save_adversarial",
)
"""The keys of a record that decide its rows: a run is only resumed with the same values."""

_SAVE_EVERY = 10.0


class Writer:
    """Appends verdicts to a run's directory, which no other process may write meanwhile.

    `create` or `resume` makes one.
    """

    def __init__(self, directory: Path, record: Record, rows: list[list[str]], lock: FolderLock) -> None:
        self.directory = directory
        self._lock = lock
        self.record = record
        self._path = directory / "verdicts.csv"
        self._done = {row_file.trial_of(row) for row in rows}
        self._opened = self._saved = time.monotonic()
        self._spent = record.seconds
        with files.explained(self._path):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._length = os.fstat(self._file).st_size

    @classmethod
    def create(cls, directory: Path | str, record: Record) -> Self:
        """Start a run in a folder that holds none.

        Raises:
            UserError: the folder holds a run, another process writes to it, or it cannot be written.
        """
        home = Path(directory)
        with _locked(home) as lock:
            if _occupied(home):
                raise UserError(f"{home} holds another run: choose another --out or continue it with --resume")
            return cls._started(home, record, lock)

    @classmethod
    def _started(cls, home: Path, record: Record, lock: FolderLock) -> Self:
        fresh = replace(_as_read(record), seconds=0.0, attack_seconds={}, forwards=0, backwards=0, finished=False)
        files.write_atomically(home / "run.json", runs.dump(fresh.to_dict()))
        files.write_atomically(home / "verdicts.csv", runs.HEADER)
        return cls(home, fresh, [], lock)

    @classmethod
    def resume(cls, directory: Path | str, record: Record) -> Self:
        """Go on with the run in a folder, or start it there if there is none yet.

        A torn last line is dropped. The recorded recipe stays; this session is added to its `resumed` list.

        Raises:
            UserError: the recipes differ (the text names the first key that does), a file is damaged, or another
                process writes to the folder.
        """
        home = Path(directory)
        with _locked(home) as lock:
            if not _occupied(home):
                return cls._started(home, record, lock)
            if (home / "verdicts.csv.gz").exists():
                raise UserError(f"{home} is an archived run: gunzip its verdicts.csv.gz before --resume")
            old = _continued(home, runs.read_record(home), _as_read(record))
            return cls(home, old, row_file.whole_rows(home / "verdicts.csv"), lock)

    def append(
        self,
        rows: Sequence[Verdict],
        seconds: Mapping[str, float] | None = None,
        images: adversarial.Images | None = None,
    ) -> None:
        """Add rows, the seconds that each attack took for them, and if wanted their images.

        Raises:
            UserError: the disk is full or the place cannot be written; what was there before stays whole.
        """
        if images is not None:
            adversarial.add(self.directory, rows, images)
        data = runs.lines(rows).encode()
        with files.explained(self._path):
            try:
                row_file.write_all(self._file, data)
                os.fsync(self._file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file, self._length)
                raise
        self._length += len(data)
        self._done |= {runs.trial(row.attack, row.norm, row.eps, row.index) for row in rows}
        spent = dict(self.record.attack_seconds)
        for attack, more in (seconds or {}).items():
            spent[attack] = spent.get(attack, 0.0) + more
        self.record = replace(self.record, attack_seconds=spent)
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._save()

    def done(self) -> set[runs.Trial]:
        """The trials that have their row (see `store.trial`)."""
        return self._done

    def finish(self) -> runs.Run:
        """Close the run: rows in the order of the recipe, whoever made them when; costs summed. Return it as stored."""
        self._stop()
        row_file.sort(self._path, self.record)
        adversarial.merge(self.directory)
        made = runs.Run(runs.load(self.directory).verdicts, self.record, self.directory)
        forwards, backwards = runs.costs(made.verdicts, self.record)
        self.record = replace(self.record, forwards=forwards, backwards=backwards, finished=not runs.missing(made))
        self._save()
        self._lock.release()
        return replace(made, record=self.record)

    def close(self) -> None:
        """Let go of the folder, keeping what the run cost so far."""
        try:
            self._stop()
        finally:
            self._lock.release()

    def _stop(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        self.record = replace(self.record, seconds=self._spent + self._saved - self._opened)
        files.write_atomically(self.directory / "run.json", runs.dump(self.record.to_dict()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # On a full disk this fails too: the first error is the one to tell.
            with suppress(UserError):
                self.close()


@contextmanager
def _locked(home: Path) -> Iterator[FolderLock]:
    """A folder's lock, kept by the writer that is made of it, released if none is."""
    lock = FolderLock.take(home)
    try:
        yield lock
    except BaseException:
        lock.release()
        raise


def _occupied(home: Path) -> bool:
    return any((home / name).exists() for name in ("run.json", "verdicts.csv", "verdicts.csv.gz"))


def _as_read(record: Record) -> Record:
    """A new record as it would be read back: tuples in an attack's fields are lists in a file."""
    return Record.from_dict(json.loads(json.dumps(record.to_dict())))


def _continued(home: Path, old: Record, new: Record) -> Record:
    """The record of a run that a new session goes on with."""
    for key in MUST_MATCH:
        if getattr(old, key) != getattr(new, key):
            raise UserError(f"{home} was made with {_difference(key, old, new)}: choose another --out")
    session = Session(command=new.command, start=new.start, versions=new.versions, commit=new.commit, dirty=new.dirty)
    return replace(old, resumed=(*old.resumed, session), finished=False)


def _difference(key: str, old: Record, new: Record) -> str:
    shown = [json.dumps(side.to_dict().get(key, getattr(side, key))) for side in (old, new)]
    if max(map(len, shown)) > 80:
        return f"other {key}" if key.endswith("s") else f"another {key}"
    return f"{key} {shown[0]}, not {shown[1]}"
