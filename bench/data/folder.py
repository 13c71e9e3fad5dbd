"""A folder of images, one class a directory, which users name `folder:PATH`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.core.files import one_line
from bench.core.types import ImageSet, UserError
from bench.data.formats import Bytes, image_set, known_split

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"})
# What becomes grey or RGB bytes without loss; an alpha channel or 16 bits would not.
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}


@dataclass(frozen=True)
class Folder:
    """The images of `path/train` and `path/test`, or of `path` itself, all of it `test`, where it has neither.

    Classes are the names of the directories, sorted; images follow their file names within each. Pixels are taken as
    stored: nothing is resized, cropped or rotated.
    """

    path: Path
    files: tuple[()] = ()

    @property
    def name(self) -> str:
        """As users write it."""
        return f"folder:{self.path}"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a directory, or `test` alone."""
        return tuple(split for split in ("train", "test") if (self.path / split).is_dir()) or ("test",)

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """A whole split; `directories` are not needed.

        Raises:
            UserError: no such folder or split; no images; images that cannot be read or differ in size or colour.
        """
        path = self.path.expanduser()
        if not path.is_dir():
            raise UserError(f"{self.name} is not a folder: write folder:PATH with one directory a class in PATH")
        splits = Folder(path).splits
        known_split(self.name, split, splits)
        homes = {part: path / part if (path / part).is_dir() else path for part in splits}
        classes = {part: _classes(home) for part, home in homes.items()}
        if len({tuple(names) for names in classes.values()}) > 1:
            raise UserError(f"{self.name}: train and test differ in their classes: give both the same directories")
        paths = [(file, y) for y, name in enumerate(classes[split]) for file in _images(homes[split] / name)]
        pixels = _read_all([file for file, _ in paths])
        return image_set(self.name, split, pixels, np.array([y for _, y in paths]), tuple(classes[split]))

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are the user's own."""
        return []


def _classes(home: Path) -> list[str]:
    names = sorted(entry.name for entry in home.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UserError(f"{home} holds no directories: make one for each class and put its images there")
    return names


def _images(home: Path) -> list[Path]:
    paths = sorted(path for path in home.iterdir() if path.suffix.lower() in _SUFFIXES and path.name[0] != ".")
    if not paths:
        raise UserError(f"{home} holds no images: add some ({' '.join(sorted(_SUFFIXES))}) or remove the directory")
    return paths


def _read_all(paths: Sequence[Path]) -> Bytes:
    first = _read(paths[0])
    pixels = np.empty((len(paths), *first.shape), np.uint8)
    for place, path in enumerate(paths):
        image = _read(path)
        if image.shape != first.shape:
            sizes = f"{_size(image)} and not {_size(first)} as {paths[0].name}"
            raise UserError(f"{path} is {sizes}: make all images the same size and colour")
        pixels[place] = image
    return pixels


def _size(image: Bytes) -> str:
    return f"{image.shape[2]}x{image.shape[1]} {'grey' if image.shape[0] == 1 else 'RGB'}"


def _read(path: Path) -> Bytes:
    try:
        with Image.open(path) as image:
            mode = _MODES.get(image.mode)
            if not mode:
                raise UserError(f"{path} is stored as {image.mode}: convert it to 8-bit grey or RGB")
            pixels = np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({one_line(error)}): replace or remove it") from None
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
