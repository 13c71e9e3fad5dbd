"""Loading a data set by the name users give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.core.files import directories
from bench.core.registry import datasets
from bench.core.types import ImageSet, UserError
from bench.data.folder import Folder


def find(name: str) -> Any:
    """The data set of this name, registered or `folder:PATH`.

    Raises:
        UserError: no such data set.
    """
    kind, colon, path = name.partition(":")
    if kind != "folder":
        return datasets[name]
    if not colon or not path:
        raise UserError(f"{name!r} names no folder: write folder:PATH with one directory a class in PATH")
    return Folder(Path(path))


def load(name: str, split: str = "test", data_dir: str | None = None) -> ImageSet:
    """A whole split of a data set: images (N, C, H, W) float32 in [0, 1] in their official order.

    Files are looked for in `data_dir`, then `$BENCH_DATA`, then the user's cache.

    Raises:
        UserError: no such data set, split or `data_dir`; files that are missing, damaged or not the official ones.
    """
    if data_dir and not Path(data_dir).expanduser().is_dir():
        raise UserError(f"data directory {data_dir!r} not found: give --data-dir a directory that exists")
    found: ImageSet = find(name).load(split, directories(data_dir))
    return found
