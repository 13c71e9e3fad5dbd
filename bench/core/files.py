"""Finding, hashing and fetching files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from bench.core.types import UserError


def cache_dir() -> Path:
    """The user's cache of this program, where the platform keeps caches: `~/.cache/bench`, by `$XDG_CACHE_HOME`."""
    return user_cache_path("bench", appauthor=False)


PACKAGE = Path(__file__).parent.parent
"""Where the package lies. Its parent is the checkout, or site-packages."""


def shipped(name: str, checkout: str | None = None) -> Path:
    """A file that comes with the program: inside an installed copy, else at `checkout` (or `name`) in the checkout."""
    installed = PACKAGE / "builtin" / name
    return installed if installed.exists() else PACKAGE.parent / (checkout or name)


def directories(data_dir: str | None = None) -> list[Path]:
    """Where data sets are looked for, in order: `data_dir` if given, `$BENCH_DATA` if set, the user's cache."""
    given = [place for place in (data_dir, os.environ.get("BENCH_DATA")) if place]
    return [*(Path(place).expanduser() for place in given), cache_dir() / "data"]


def search(relative: str, places: Iterable[Path]) -> Path | None:
    """The first of `places` that holds the file `relative`, as a path to that file."""
    return next((place / relative for place in places if (place / relative).is_file()), None)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """The md5 of a file, in hexadecimal, for data of which no better hash is published."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_content(path: Path) -> bytes:
    """The bytes of a file; of a `.gz`, what it unpacks to.

    Raises:
        UserError: it cannot be read, or it is not a whole gzip file.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file ({one_line(error)}): delete it and fetch it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}): check the file and its permissions") from None


def content_sha256(path: Path) -> str:
    """The sha256 of what a `.gz` unpacks to, or of any other file itself; packing again does not change it.

    Raises:
        UserError: as `read_content`.
    """
    return hashlib.sha256(read_content(path)).hexdigest()


def one_line(error: BaseException) -> str:
    """The text of an error on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into one line that says what to do.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full: free some space, then continue with --resume") from None
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --out") from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file under a temporary name, then rename it: readers see the old content or the new one.

    Raises:
        UserError: the disk is full, or the place cannot be written; the old content stays.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
