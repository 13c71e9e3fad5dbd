"""Data sets that are published as files: found by name, checked by hash, fetched from the official addresses."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bench.core.download import fetch
from bench.core.files import content_sha256, one_line, read_content
from bench.core.places import is_file, search
from bench.core.types import ImageSet, UserError
from bench.data.formats import Bytes, Source, image_set, known_split

Decoder = Callable[[Sequence[Source]], tuple[Bytes, NDArray[Any]]]
"""The files of one split, in order, to images (N, C, H, W) as bytes and labels (N,)."""


@dataclass(frozen=True)
class Reordered:
    """A file with the records of an official one in another order: the sha256 of its content, and that order."""

    sha256: str
    order: str


@dataclass(frozen=True)
class OfficialFile:
    """One official file: its name, the sha256 of its content, and where it is published unless in an archive.

    Where only an md5 of it is known, that stands in place of the sha256. `reordered` are files that pass for it. A file
    with more bytes than `most` is another's, which is known before it is read or unpacked whole.
    """

    name: str
    sha256: str
    urls: tuple[str, ...] = ()
    reordered: tuple[Reordered, ...] = ()
    most: int = 1 << 28

    def order(self, content: bytes) -> str | None:
        """The order of the records in such a file: empty for the official one, None if the content is another's."""
        orders = {self.sha256: "", **{other.sha256: other.order for other in self.reordered}}
        return next((order for digest, order in orders.items() if _digest(content, digest) == digest), None)


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` that holds the official files in one folder; `sha256` is that of the archive itself."""

    url: str
    sha256: str
    folder: str


@dataclass(frozen=True)
class Published:
    """A data set in official files.

    `layouts` are the folders, below each directory of the user's, in which its files are looked for; the first is
    where they are fetched to. `parts` names the files of each split in the order that numbers the images.
    """

    name: str
    classes: tuple[str, ...]
    layouts: tuple[str, ...]
    parts: Mapping[str, tuple[OfficialFile, ...]]
    decode: Decoder
    archive: Archive | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""
        return tuple(self.parts)

    @property
    def files(self) -> tuple[OfficialFile, ...]:
        """The official files of all splits."""
        return tuple(file for files in self.parts.values() for file in files)

    def load(self, split: str, directories: Sequence[Path]) -> ImageSet:
        """A whole split from the first directory that has its files.

        Raises:
            UserError: no such split; a file is missing, damaged, or not the official one.
        """
        known_split(self.name, split, self.splits)
        sources, orders = zip(*(self._read(file, directories) for file in self.parts[split]), strict=True)
        pixels, labels = self.decode(sources)
        if len(pixels) != len(labels) or (len(labels) and int(labels.max()) >= len(self.classes)):
            what = f"gives {len(labels):,} labels for {len(pixels):,} images, or labels past {len(self.classes) - 1}"
            raise sources[-1].fault(what)
        whole = image_set(self.name, split, pixels, labels, self.classes)
        return replace(whole, order="; ".join(dict.fromkeys(filter(None, orders))))

    def fetch(self, directory: Path) -> list[Path]:
        """Download what `directory` lacks from the official addresses; the paths of all files.

        A file in another order that is known stays.

        Raises:
            UserError: an address does not answer, or what it sends is not the official file.
        """
        home = directory / self.layouts[0]
        missing = [file for file in self.files if not _is_right(home / file.name, file)]
        if missing and self.archive:
            self._fetch_archive(self.archive, missing, home)
        else:
            for file in missing:
                fetch(file.urls, home / file.name, file.sha256, partial(content_sha256, most=file.most))
        return [home / file.name for file in self.files]

    def _read(self, file: OfficialFile, directories: Sequence[Path]) -> tuple[Source, str]:
        """The content of a file, and its order if that is not the official one."""
        places = [directory / layout for directory in directories for layout in self.layouts]
        names = dict.fromkeys((file.name, file.name.removesuffix(".gz")))
        path = next((path for place in places for name in names if (path := search(name, [place]))), None)
        if not path:
            looked = ", ".join(map(str, directories))
            remedy = f'run "bench data fetch {self.name}" or set BENCH_DATA'
            raise UserError(f"{self.name}: {file.name} not found in {looked}: {remedy}")
        source = Source(path, read_content(path, file.most))
        order = file.order(source.content)
        if order is None:
            digest = _digest(source.content, file.sha256)
            wrong = f"{_algorithm(file.sha256)} {digest[:12]}... instead of {file.sha256[:12]}..."
            remedy = f'delete it and run "bench data fetch {self.name}"'
            raise UserError(f"{self.name}: {path} is not the official file ({wrong}): {remedy}")
        return source, order

    def _fetch_archive(self, archive: Archive, wanted: Sequence[OfficialFile], home: Path) -> None:
        packed = home / archive.url.rpartition("/")[2]
        fetch(archive.url, packed, archive.sha256)
        try:
            with tarfile.open(packed) as tar:
                for file in wanted:
                    _extract(tar, f"{archive.folder}/{file.name}", home / file.name, file)
        except (tarfile.TarError, KeyError, EOFError, OSError, ValueError, zlib.error) as error:
            raise UserError(f"{packed} cannot be unpacked ({one_line(error)}): delete it and fetch it again") from None
        packed.unlink()


def _algorithm(digest: str) -> str:
    return "md5" if len(digest) == 32 else "sha256"


def _digest(content: bytes, like: str) -> str:
    return hashlib.new(_algorithm(like), content, usedforsecurity=False).hexdigest()


def _is_right(path: Path, file: OfficialFile) -> bool:
    try:
        return is_file(path) and file.order(read_content(path, file.most)) is not None
    except UserError:
        return False


def _extract(tar: tarfile.TarFile, member: str, destination: Path, file: OfficialFile) -> None:
    # Only the names asked for are read, and only as bytes: an archive cannot choose where it writes.
    stream = tar.extractfile(member)
    content = stream.read(file.most + 1) if stream else b""
    if _digest(content, file.sha256) != file.sha256:
        raise tarfile.ReadError(f"{member} is not the official file")
    part = destination.with_name(f".part-{os.getpid()}-{destination.name}")
    try:
        part.write_bytes(content)
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
