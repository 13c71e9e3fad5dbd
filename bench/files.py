"""Finding, hashing and fetching files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.request import Request, urlopen

from tqdm import tqdm

from bench.types import UserError

_CHUNK = 1 << 20
_TIMEOUT = 30.0


def cache_dir() -> Path:
    """The user's cache of this program: `$XDG_CACHE_HOME/bench`, or `~/.cache/bench`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "bench"


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


def fetch(
    url: str | Sequence[str],
    destination: Path,
    sha256: str | None = None,
    digest: Callable[[Path], str] = sha256_of,
) -> None:
    """Download a file, whole and checked, or leave `destination` as it was.

    Args:
        url: an address, or several that are tried in order.
        destination: where the file goes; its directory is made if need be.
        sha256: what `digest` must find, in hexadecimal; None checks the length alone.
        digest: how the file is hashed, `content_sha256` for a `.gz` known by its content.

    Raises:
        UserError: no address gave the file, or its directory cannot be made; the text says why and what to do by hand.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{destination.parent} cannot be made ({one_line(error)}): choose another directory") from None
    # The name keeps its suffix, by which content_sha256 knows a .gz.
    part = destination.with_name(f".part-{os.getpid()}-{destination.name}")
    faults = []
    for address in [url] if isinstance(url, str) else url:
        try:
            _download(address, part)
            if sha256 and (found := digest(part)) != sha256:
                raise UserError(f"sha256 {found[:12]}... is not {sha256[:12]}...")
            part.replace(destination)
            return
        # ValueError: an address that urllib cannot parse.
        except (OSError, HTTPException, ValueError, UserError) as error:
            faults.append(f"{address} ({one_line(error)})")
        finally:
            part.unlink(missing_ok=True)
    remedy = f"check the network, or place the file at {destination} by hand"
    raise UserError(f"{destination.name} could not be fetched from {', '.join(faults)}: {remedy}")


def _download(url: str, path: Path) -> None:
    request = Request(url, headers={"User-Agent": "bench"})
    with urlopen(request, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        length = int(answer.headers.get("Content-Length") or 0)
        # disable=None: silent unless stderr is a terminal.
        with tqdm(total=length or None, unit="B", unit_scale=True, desc=path.name[-32:], disable=None) as bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise OSError(f"the connection ended after {file.tell():,} of {length:,} bytes")


def module_of(path: Path) -> ModuleType:
    """Run a user's Python file as a module of its own.

    Raises:
        UserError: it is not a Python file; whatever the file itself raises.
    """
    # A name of its own for each path: two files called model.py may be in use at once.
    name = f"_bench_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file: give one that ends in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
