"""Files read within bounds, hashed, and written whole."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

from bench.core.types import UserError


def opened(path: Path) -> BufferedReader:
    """A regular file, open for reading; a pipe or a device, which might never end, is refused before it is read.

    Raises:
        UserError: there is none, it is something else, or it cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")  # noqa: PTH123, SIM115
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else None
        raise UserError(f"{path} cannot be read ({text or one_line(error)}): check the path and its file") from None
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path} cannot be read (it is not a regular file): check the path and its file")
    return file


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """The md5 of a file, in hexadecimal, for data of which no better hash is published.

    Raises:
        UserError: it cannot be read.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


_LONGEST_NAME = 255
_CHUNK = 1 << 20
_UNPACKED, _RATIO = 1 << 26, 100
"""A `.gz` may unpack to 64 MiB, or to a hundred times what was read of it: nothing that is meant packs better."""


def read_content(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file; of a `.gz`, what it unpacks to.

    Args:
        path: the file.
        most: how many bytes there may be, where something declares it. What is larger is refused before it is read.

    Raises:
        UserError: it cannot be read, it is larger than it may be, or it is not a whole gzip file.
    """
    with opened(path) as file:
        if path.suffix == ".gz":
            return _unpacked(path, file, most)
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise _too_large(path, most)
        check_size(path)
        return file.read()


def check_unpacked(path: Path, most: int = _UNPACKED) -> None:
    """Refuse a zip file, as numpy and torch write them, that declares more than a reader should unpack.

    Args:
        path: the file; one of another kind is left to its reader.
        most: how many bytes its entries may have. As many as the file has, which is not packed then, they always may.

    Raises:
        UserError: they have more, or the file is damaged.
    """
    with opened(path) as file:
        if not zipfile.is_zipfile(file):
            return
        bound = max(os.fstat(file.fileno()).st_size, most)
        try:
            with zipfile.ZipFile(file) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
        except Exception as error:  # whatever the reader raises at a damaged directory
            raise UserError(f"{path} cannot be read ({one_line(error)}): give back the file as it was") from None
    if declared > bound:
        text = f"it declares {declared:,} bytes, more than the {bound:,} that it may have"
        raise UserError(f"{path} cannot be read ({text}): give back the file as it was")


def check_size(path: Path) -> None:
    """Refuse a file that memory cannot hold, before it is read or hashed.

    Raises:
        UserError: it is larger than this machine's memory, or cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
    if size > memory():
        raise UserError(f"{path} has {size:,} bytes, more than memory holds: give a smaller file")


def _unpacked(path: Path, file: BufferedReader, most: int | None) -> bytes:
    content = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            while chunk := unpacked.read(_CHUNK):
                content.write(chunk)
                bound = max(_UNPACKED, _RATIO * file.tell()) if most is None else most
                if content.tell() > bound:
                    raise _too_large(path, bound)
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is not a whole gzip file ({one_line(error)}): delete it and fetch it again") from None
    return content.getvalue()


def _too_large(path: Path, most: int) -> UserError:
    return UserError(f"{path} holds more than {most:,} bytes, which no such file has: delete it and fetch it again")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        UserError: it cannot be read, or it is not UTF-8.
    """
    try:
        return read_content(path).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({one_line(error)}): correct it or give another") from None


def content_sha256(path: Path, most: int | None = None) -> str:
    """The sha256 of what a `.gz` unpacks to, or of any other file itself; packing again does not change it.

    Raises:
        UserError: as `read_content`.
    """
    return hashlib.sha256(read_content(path, most)).hexdigest()


def memory() -> int:
    """The bytes of this machine's memory; more than any machine has where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def one_line(error: BaseException, most: int = 300) -> str:
    """The text of an error on one line of at most so many letters, or its kind where it has none."""
    try:
        text = " ".join(str(error).split()) or type(error).__name__
    except Exception:  # of a user's own class
        return type(error).__name__
    return text if len(text) <= most else f"{text[:most]}..."


def check_place(path: Path, folder: bool = True) -> None:
    """Refuse a place where nothing can be written, before anything is computed for it; nothing is left behind.

    Args:
        path: where a folder, or a file, is to be made or added to.
        folder: which of them.

    Raises:
        UserError: a part of the path is a file or has too long a name, or its nearest folder cannot be written.
    """
    with explained(path):
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, f"a name in it is longer than {_LONGEST_NAME} bytes")
        places = path.absolute() if folder else path.absolute().parent
        home = next(place for place in (places, *places.parents) if os.path.lexists(place))
        if not home.is_dir() or (not folder and path.is_dir()):
            raise OSError(errno.ENOTDIR, f"{path if home.is_dir() else home} is not a {'folder' if folder else 'file'}")
        with tempfile.TemporaryFile(dir=home):
            pass


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
    except ValueError as error:  # a zero byte in the path
        raise UserError(f"{path} cannot be written ({one_line(error)}): choose another --out") from None


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


def remove_leftovers(directory: Path) -> None:
    """Remove what processes that were killed in the middle of a `write_atomically` left in a folder."""
    for path in directory.glob(".*.*"):
        process = path.name.rpartition(".")[2]
        if process.isascii() and process.isdigit() and not _lives(int(process)):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
