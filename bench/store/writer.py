"""Writing a run while it goes on, and going on with one that was stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.core import files
from bench.core.text import printable
from bench.core.types import UserError, Verdict
from bench.store import images as adversarial
from bench.store import row_file, runs, signature, ways
from bench.store.continuation import Clean, clean_of, continued, extended, refuse_other_clean, unproven
from bench.store.lock import FolderLock
from bench.store.record import Record

_SAVE_EVERY = 10.0

_DELETED = "{} was deleted or replaced while the run wrote to it: what was there is lost; run it again"


class Writer:
    """Appends verdicts to a run's directory, which no other process may write meanwhile.

    `create`, `resume` or `extend` makes one. `notes` are lines that a user should read before it goes on; `clean` is
    what the rows that are there say of images.
    """

    def __init__(
        self, directory: Path, record: Record, rows: list[list[str]], lock: FolderLock, notes: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.notes = tuple(notes)
        self.clean = clean_of(rows)
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
    def resume(cls, directory: Path | str, record: Record, clean: Clean | None = None) -> Self:
        """Go on with the run in a folder, or start it there if there is none yet.

        What is damaged in its rows is dropped, to be made again. The recorded recipe stays; this session is added to
        its `resumed` list. `clean` is what the model of this session makes of the clean images.

        Raises:
            UserError: the recipes, the models or their clean predictions differ (the text says in what), rows were
                edited, a file is damaged, or another process writes to the folder.
        """
        home = Path(directory)
        with _locked(home) as lock:
            if not _occupied(home):
                writer = cls._started(home, record, lock)
                writer.notes = (f"{home} holds no run yet: it starts there",)
                return writer
            return cls._going_on(home, record, clean, lock, continued)

    @classmethod
    def extend(cls, directory: Path | str, record: Record, clean: Clean | None = None) -> Self:
        """Add the attacks of a record to the run in a folder; the same again goes on where that was stopped.

        Raises:
            UserError: there is no run, or as `resume`, but for the attacks.
        """
        home = Path(directory)
        with _locked(home) as lock:
            if not _occupied(home):
                raise UserError(f"{home} holds no run to extend: leave out --extend")
            writer = cls._going_on(home, record, clean, lock, extended)
            writer._save()  # before the first of the new rows, which the old record does not know
            return writer

    @classmethod
    def _going_on(
        cls,
        home: Path,
        record: Record,
        clean: Clean | None,
        lock: FolderLock,
        joined: Callable[[Path, Record, Record], Record],
    ) -> Self:
        """A writer of a run that is there, whose record is `joined` with the one of this session."""
        if (home / "verdicts.csv.gz").exists():
            raise UserError(f"{home} is an archived run: gunzip its verdicts.csv.gz before --resume")
        old = runs.read_record(home)
        going_on = joined(home, old, _as_read(record))
        signature.refuse_other_files(home, old)
        kept = row_file.kept_rows(home / "verdicts.csv", old)
        if clean is not None and not (old.behaviour and old.behaviour.random):
            refuse_other_clean(home, clean_of(kept.rows), clean)
        return cls(home, going_on, kept.rows, lock, [*unproven(home, old), *kept.notes])

    def append(
        self,
        rows: Sequence[Verdict],
        seconds: Mapping[str, float] | None = None,
        images: adversarial.Images | None = None,
        searched: Sequence[ways.Way] | None = None,
    ) -> None:
        """Add rows, the seconds that each attack took for them, and if wanted their images and how searches went.

        Raises:
            UserError: the disk is full or the place cannot be written, and what was there before stays whole; or
                somebody has deleted the folder.
        """
        self._refuse_deleted()
        if images is not None:
            adversarial.add(self.directory, rows, images)
        if searched is not None:
            ways.add(self.directory, rows, searched)
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

    def fail(self, reasons: Mapping[str, str]) -> None:
        """Note why attacks could not be made, by name, before their rows are added."""
        plain = {name: printable(" ".join(reason.split())) for name, reason in reasons.items()}
        if not plain.items() <= self.record.failed.items():
            self.record = replace(self.record, failed={**self.record.failed, **plain})
            self._save()

    def done(self) -> set[runs.Trial]:
        """The trials that have their row (see `store.trial`)."""
        return self._done

    def finish(self) -> runs.Run:
        """Close the run: rows in the order of the recipe, whoever made them when; costs summed; signed.

        Return it as stored.

        Raises:
            UserError: it was finished before, and the rows that were kept with those made again are not the same.
        """
        self._stop()
        content = row_file.sort(self._path, self.record)
        adversarial.merge(self.directory)
        ways.settle(self.directory, runs.trials(self.record))
        made = runs.Run(runs.load(self.directory).verdicts, self.record, self.directory)
        forwards, backwards = runs.costs(made.verdicts, self.record)
        record = replace(self.record, forwards=forwards, backwards=backwards, finished=not runs.missing(made))
        self.record = signature.signed(record, self.directory, content) if record.finished else record
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

    def _refuse_deleted(self) -> None:
        """Stop where the folder was deleted or replaced: an open file takes rows that nobody will ever find."""
        mine = os.fstat(self._file)
        with suppress(OSError):
            if os.path.samestat(mine, self._path.stat()):
                return
        raise UserError(_DELETED.format(self.directory))

    def _save(self) -> None:
        if not (self.directory / "run.json").exists():
            raise UserError(_DELETED.format(self.directory))
        self._saved = time.monotonic()
        self.record = replace(self.record, seconds=self._spent + self._saved - self._opened, record_sha256="")
        if self.record.finished:
            self.record = replace(self.record, record_sha256=signature.of_record(self.record))
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
