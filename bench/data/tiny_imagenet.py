"""Tiny ImageNet: photographs of 200 classes, 64x64 colour (Stanford CS231n, 2015), read from its official zip file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.download import fetch
from bench.core.files import md5_of, one_line
from bench.core.registry import datasets
from bench.core.types import ImageSet
from bench.data.formats import Bytes, Source, image_set, known_split
from bench.data.official import OfficialFile, Published

_SIDE = 64
_ZIP = OfficialFile(
    "tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)


class _TinyImageNet(Published):
    """`train` has 500 images a class; `test` is the published validation part, 50 a class: the test part has no labels.

    Classes are WordNet ids in their alphabetical order; images follow their numbers, in `train` class by class.
    """

    @property
    def files(self) -> tuple[OfficialFile, ...]:
        """The zip file, which holds both splits."""
        return tuple(dict.fromkeys(file for files in self.parts.values() for file in files))

    def load(self, split: str, directories: Sequence[Path]) -> ImageSet:
        """A whole split from the zip file in the first directory that has it; grey images get three equal channels.

        Raises:
            UserError: no such split; the file is missing, damaged, or not the official one.
        """
        known_split(self.name, split, self.splits)
        source, _ = self._read(self.parts[split][0], directories)
        try:
            with zipfile.ZipFile(BytesIO(source.content)) as archive:
                root = next(name for name in archive.namelist() if name.endswith("wnids.txt")).removesuffix("wnids.txt")
                classes = sorted(archive.read(f"{root}wnids.txt").decode().split())
                listed = _training(archive, root, classes) if split == "train" else _validation(archive, root, classes)
                pixels, labels = _read_all(archive, listed)
        except (zipfile.BadZipFile, KeyError, StopIteration, OSError, ValueError) as error:
            raise source.fault(f"is not laid out as the official file ({one_line(error)})") from None
        return image_set(self.name, split, pixels, labels, tuple(classes))

    def fetch(self, directory: Path) -> list[Path]:
        """Download the zip file unless it is there.

        Raises:
            UserError: the address does not answer, or what it sends is not the official file.
        """
        path = directory / self.layouts[0] / _ZIP.name
        if not path.is_file() or md5_of(path) != _ZIP.sha256:
            fetch(_ZIP.urls, path, _ZIP.sha256, md5_of)
        return [path]


def _training(archive: zipfile.ZipFile, root: str, classes: Sequence[str]) -> list[tuple[str, int]]:
    groups: dict[str, list[str]] = {name: [] for name in classes}
    for path in archive.namelist():
        if path.startswith(f"{root}train/") and path.endswith(".JPEG"):
            groups[path.removeprefix(f"{root}train/").partition("/")[0]].append(path)
    return [(path, y) for y, name in enumerate(classes) for path in sorted(groups[name], key=_number)]


def _validation(archive: zipfile.ZipFile, root: str, classes: Sequence[str]) -> list[tuple[str, int]]:
    places = {name: y for y, name in enumerate(classes)}
    lines = archive.read(f"{root}val/val_annotations.txt").decode().splitlines()
    pairs = [line.split("\t")[:2] for line in lines if line.strip()]
    listed = [(f"{root}val/images/{name}", places[wnid]) for name, wnid in pairs]
    return sorted(listed, key=lambda pair: _number(pair[0]))


def _number(path: str) -> int:
    return int(path.rpartition("_")[2].removesuffix(".JPEG"))


def _read_all(archive: zipfile.ZipFile, listed: Sequence[tuple[str, int]]) -> tuple[Bytes, NDArray[Any]]:
    if not listed:
        raise ValueError("it holds no images")
    pixels = np.empty((len(listed), 3, _SIDE, _SIDE), np.uint8)
    for place, (path, _) in enumerate(listed):
        with Image.open(BytesIO(archive.read(path))) as image:
            if image.size != (_SIDE, _SIDE):
                raise ValueError(f"{path} is {image.size[0]}x{image.size[1]}")
            pixels[place] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return pixels, np.array([y for _, y in listed])


def _decode(sources: Sequence[Source]) -> tuple[Bytes, NDArray[Any]]:
    raise NotImplementedError("which images a split has stands in the zip file: see load")


TINY_IMAGENET = _TinyImageNet(
    name="tiny_imagenet",
    classes=(),
    layouts=("tiny_imagenet", "tiny-imagenet", ""),
    parts=dict.fromkeys(("train", "test"), (_ZIP,)),
    decode=_decode,
)
datasets.register("tiny_imagenet")(TINY_IMAGENET)
