"""One writer a folder: a second process is refused while the first lives."""

from __future__ import annotations

import datetime
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from bench.core import files
from bench.core.text import as_file_name
from bench.core.types import UserError

_NAME = ".lock"


def new_folder(parent: Path, stem: str) -> Path:
    """Make a folder that nobody has: named after a model and the second, and numbered where another took that name.

    Raises:
        UserError: the place cannot be written.
    """
    name = as_file_name(f"{Path(stem).name}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}".replace(":", "-"))
    with files.explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        names = (parent / (name if number == 1 else f"{name}-{number}") for number in count(1))
        return next(directory for directory in names if _is_mine(directory))


def _is_mine(directory: Path) -> bool:
    """Make a folder; False if it is there already."""
    try:
        directory.mkdir()
    except FileExistsError:
        return False
    return True


class FolderLock:
    """A lock on a folder for as long as this process lives or until `release`; `take` makes one.

    The system drops the lock of a process that was killed; the file that may stay behind holds nobody up, and the next
    process to hold the lock removes it.
    """

    def __init__(self, directory: Path) -> None:
        # Here, because whoever only reads runs does not need it.
        from filelock import FileLock

        self._path = directory / _NAME
        self._lock = FileLock(self._path, blocking=False, thread_local=False)

    @classmethod
    def take(cls, directory: Path) -> Self:
        """Lock a folder, which is made if it is not there.

        Raises:
            UserError: another process holds it, or the place cannot be written.
        """
        from filelock import Timeout

        with files.explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
            taken = cls(directory)
            try:
                taken._lock.acquire()
            except Timeout:
                remedy = "wait until it ends, or choose another --out"
                raise UserError(f"{directory} is being written by another process: {remedy}") from None
            files.remove_leftovers(directory)
        return taken

    def release(self) -> None:
        """Let another process have the folder; nothing happens the second time."""
        if self._lock.is_locked:
            # While it is held, so that no other process loses a file that it has locked by then.
            with suppress(OSError):
                self._path.unlink()
            self._lock.release()
