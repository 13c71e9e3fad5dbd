"""Loading a data set by the name users give it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.core.places import directories, expanded, is_folder
from bench.core.registry import datasets
from bench.core.text import shown
from bench.core.types import ImageSet, UserError
from bench.data.folder import Folder


class DataSet(Protocol):
    """A set of labelled images in splits, as the registry holds it."""

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""
        ...

    def load(self, split: str, directories: Sequence[Path]) -> ImageSet:
        """A whole split from the first directory that has its files."""
        ...

    def fetch(self, directory: Path) -> list[Path]:
        """Download what `directory` lacks; the paths of all files."""
        ...


def find(name: str) -> DataSet:
    """The data set of this name, registered or `folder:PATH`.

    Raises:
        UserError: no such data set.
    """
    kind, colon, path = name.partition(":")
    if kind != "folder":
        known: DataSet = datasets[name]
        return known
    if not colon or not path:
        raise UserError(f"{shown(name)} names no folder: write folder:PATH with one directory a class in PATH")
    return Folder(Path(path))


def load(name: str, split: str = "test", data_dir: str | None = None) -> ImageSet:
    """A whole split of a data set: images (N, C, H, W) float32 in [0, 1] in their official order.

    Files are looked for in `data_dir`, then `$BENCH_DATA`, then the user's cache.

    Raises:
        UserError: no such data set, split or `data_dir`; files that are missing, damaged or not the official ones.
    """
    if data_dir is not None and not (data_dir and is_folder(expanded(data_dir))):
        raise UserError(f"data directory {shown(data_dir)} not found: give --data-dir a directory that exists")
    return find(name).load(split, directories(data_dir))
