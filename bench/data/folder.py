"""A folder of images, one class a directory, which users name `folder:PATH`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.core.files import memory, one_line, opened
from bench.core.places import expanded, is_folder
from bench.core.types import ImageSet, UserError
from bench.data.formats import Bytes, image_set, known_split

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
"""The readers that are tried: none of them starts another program, as that of EPS does."""
_MOST_PIXELS = 1 << 24
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
        path = expanded(str(self.path))
        if not is_folder(path):
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
    paths = sorted(path for path in _entries(home) if path.suffix.lower() in _SUFFIXES and path.name[0] != ".")
    if not paths:
        raise UserError(f"{home} holds no images: add some ({' '.join(sorted(_SUFFIXES))}) or remove the directory")
    return paths


def _read_all(paths: Sequence[Path]) -> Bytes:
    pixels = np.empty((0, 0, 0, 0), np.uint8)
    for place, path in enumerate(paths):
        with _opened(path) as image:
            shape = _shape(path, image)
            if not place:
                _check_memory(paths, shape)
                pixels = np.empty((len(paths), *shape), np.uint8)
            elif shape != pixels.shape[1:]:
                sizes = f"{_size(shape)} and not {_size(pixels.shape[1:])} as {paths[0].name}"
                raise UserError(f"{path} is {sizes}: make all images the same size and colour")
            pixels[place] = _decoded(path, image)
    return pixels


def _check_memory(paths: Sequence[Path], shape: Sequence[int]) -> None:
    """Refuse more images than memory holds, as bytes and as numbers of four bytes, before any is decoded."""
    needed, there = 5 * len(paths) * math.prod(shape), memory()
    if needed > there:
        sizes = f"{len(paths):,} images of {_size(shape)} would take {needed / 2**30:,.1f} GiB of {there / 2**30:,.1f}"
        raise UserError(f"{paths[0].parents[1]}: {sizes}: give smaller images, or fewer")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose header has been read, but no pixel."""
    with opened(path) as file:
        try:
            with warnings.catch_warnings():  # of large sizes, which are refused here, and of damaged tags
                warnings.simplefilter("ignore")
                image = Image.open(file, formats=_FORMATS)
        except Exception as error:  # whatever the readers of the formats raise at a damaged header
            raise _unreadable(path, error) from None
        with image:
            yield image


def _unreadable(path: Path, error: Exception) -> UserError:
    unknown = isinstance(error, UnidentifiedImageError)
    text = f"it is none of {', '.join(_FORMATS)}" if unknown else one_line(error)[:120]
    return UserError(f"{path} cannot be read as an image ({text}): replace or remove it")


def _shape(path: Path, image: Image.Image) -> tuple[int, int, int]:
    """(C, H, W) as the header says."""
    mode = _MODES.get(image.mode)
    if not mode:
        raise UserError(f"{path} is stored as {image.mode}: convert it to 8-bit grey or RGB")
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise UserError(f"{path} is {width}x{height}, more than {_MOST_PIXELS:,} pixels: make it smaller")
    return (1 if mode == "L" else 3), height, width


def _decoded(path: Path, image: Image.Image) -> Bytes:
    """Its pixels (C, H, W)."""
    try:
        with warnings.catch_warnings():  # of damaged tags, which pixels do not need
            warnings.simplefilter("ignore")
            pixels = np.asarray(image.convert(_MODES[image.mode]))
    except Exception as error:  # whatever a decoder raises at damaged content
        raise _unreadable(path, error) from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"
