"""A folder of images, one class a directory, which users name `folder:PATH` or `folder:PATH(resize=256,crop=224)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.files import read_content, read_text
from bench.core.images import Expected
from bench.core.places import expanded, is_file, is_folder
from bench.core.registry import data_kinds
from bench.core.text import shown
from bench.core.types import ImageSet, UserError
from bench.data.encoded import Encoded, set_of
from bench.data.formats import known_split
from bench.data.naming import labels_of_names
from bench.data.pictures import SUFFIXES
from bench.data.transform import transform_of

_CLASSES = "classes.txt"
_MOST_BYTES = 1 << 28


@data_kinds.register("folder")
@dataclass(frozen=True)
class Folder:
    """The images of `path/train` and `path/test`, or of `path` itself, all of it `test`, where it has neither.

    Classes are the names of the directories, sorted, or as `classes.txt` in the folder or the model numbers them;
    images follow their file names within each. Pixels are taken as stored unless a size is asked for.

    Args:
        path: the folder.
        resize: the side that the shorter one becomes, or a height and a width.
        crop: the side of a square, or a height and a width, in the middle.
        interpolation: how images are resized: bilinear unless the model's configuration says otherwise.
        middle: see `bench.data.transform`.
        written: the whole as it was written.
        labels: the class of each directory, in their order, where a model numbers them.
        count: how many classes such a model has.
        files: none that could be fetched.
    """

    path: Path = field(metadata={"bound": True})
    resize: int | tuple[int, ...] = ()
    crop: int | tuple[int, ...] = ()
    interpolation: str = ""
    middle: str = ""
    written: str = field(default="", metadata={"bound": True})
    labels: tuple[int, ...] = field(default=(), metadata={"bound": True})
    count: int = field(default=0, metadata={"bound": True})
    files: tuple[()] = field(default=(), metadata={"bound": True})

    @property
    def name(self) -> str:
        """As users write it."""
        return self.written or f"folder:{self.path}"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a directory, or `test` alone."""
        home = expanded(str(self.path))
        return tuple(split for split in ("train", "test") if (home / split).is_dir()) or ("test",)

    def fitted(self, expected: Expected) -> tuple[Folder, dict[str, Any]]:
        """The same as a model's configuration wants it where nothing else is written, and what a record says of it.

        A `classes.txt` goes before the model's own names, and a size that is written before the model's.
        """
        options: dict[str, Any] = {}
        if expected.transform and not self.resize and not self.crop:
            options |= transform_of(expected.transform, self.name).recorded()
        home = expanded(str(self.path))
        if expected.classes and is_folder(home) and not is_file(home / _CLASSES):
            labels = labels_of_names(_classes(self._home(self.splits[0])), expected.classes)
            options |= {"labels": list(labels), "count": len(expected.classes)} if labels else {}
        return self.with_options(options), options

    def with_options(self, options: Mapping[str, Any]) -> Folder:
        """The same with what a record says of it."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        return replace(self, **known)

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """A whole split; `directories` are not needed.

        Raises:
            UserError: no such folder or split; no images; images that cannot be read or differ in size or colour.
        """
        transform = transform_of(vars(self), self.name)
        if not is_folder(expanded(str(self.path))):
            raise UserError(f"{self.name} is not a folder: write folder:PATH with one directory a class in PATH")
        known_split(self.name, split, self.splits)
        classes = {part: _classes(self._home(part)) for part in self.splits}
        if len({tuple(names) for names in classes.values()}) > 1:
            raise UserError(f"{self.name}: train and test differ in their classes: give both the same directories")
        home, order, names = self._home(split), classes[split], self._numbered(classes[split])
        paths = [(file, y) for y, name in zip(names.values(), order, strict=True) for file in _images(home / name)]

        def read(place: int) -> bytes:
            return read_content(paths[place][0], _MOST_BYTES)

        pictures = Encoded([str(path.relative_to(home)) for path, _ in paths], read, transform, f"{home}/")
        return set_of(pictures, np.array([y for _, y in paths]), self.name, split, self._class_names(order))

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are the user's own."""
        return []

    def _home(self, split: str) -> Path:
        path = expanded(str(self.path))
        return path / split if (path / split).is_dir() else path

    def _listed(self) -> list[str]:
        """The classes that `classes.txt` names, in order; none without such a file."""
        file = expanded(str(self.path)) / _CLASSES
        return [line.strip() for line in read_text(file).splitlines() if line.strip()] if is_file(file) else []

    def _numbered(self, order: Sequence[str]) -> dict[str, int]:
        """The class of each directory.

        Raises:
            UserError: `classes.txt` does not name one.
        """
        if self.labels:
            if len(self.labels) != len(order):
                raise UserError(f"{self.name} has {len(order)} classes, not {len(self.labels)} as recorded: restore it")
            return dict(zip(order, self.labels, strict=True))
        listed = self._listed()
        if not listed:
            return {name: y for y, name in enumerate(order)}
        labels = labels_of_names(order, listed)
        if not labels:
            lacking = [name for name in order if not labels_of_names([name], listed)]
            what = f"does not name the directory {shown(lacking[0])}" if lacking else "names a directory twice"
            raise UserError(f"{expanded(str(self.path)) / _CLASSES} {what}: write a line a class, in the model's order")
        return dict(zip(order, labels, strict=True))

    def _class_names(self, order: Sequence[str]) -> tuple[str, ...]:
        listed = self._listed()
        if listed and not self.labels:
            return tuple(listed)
        places = dict(zip(self.labels or range(len(order)), order, strict=True))
        return tuple(places.get(place, "") for place in range(max(self.count, max(places) + 1)))


def _entries(home: Path) -> list[Path]:
    try:
        return list(home.iterdir())
    except OSError as error:
        raise UserError(f"{home} cannot be read ({error.strerror}): check its permissions") from None


def _classes(home: Path) -> list[str]:
    names = sorted(entry.name for entry in _entries(home) if is_folder(entry) and not entry.name.startswith("."))
    if not names:
        raise UserError(f"{home} holds no directories: make one for each class and put its images there")
    return names


def _images(home: Path) -> list[Path]:
    paths = sorted(path for path in _entries(home) if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise UserError(f"{home} holds no images: add some ({' '.join(sorted(SUFFIXES))}) or remove the directory")
    return paths
