"""CIFAR-10-C and CIFAR-100-C in their official form (Hendrycks and Dietterich 2019): `cifar10c:fog(severity=3)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.core.fields import bounded
from bench.core.places import search
from bench.core.registry import data_kinds
from bench.core.types import ImageSet, UserError
from bench.data.arrays import mapped, set_of_arrays
from bench.data.cifar10 import CIFAR10
from bench.data.cifar100 import CIFAR100
from bench.data.formats import known_split

_EACH, _SEVERITIES = 10_000, 5


@dataclass(frozen=True)
class Corrupted:
    """The 10,000 test images under one corruption, at one severity or at all five in turn.

    Args:
        path: the name of the corruption, such as `gaussian_noise`.
        severity: 1 to 5; by default all, 50,000 images.
        written: the whole as it was written.
        files: none that could be fetched.
    """

    folder: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]

    path: Path = field(metadata={"bound": True})
    severity: int | None = bounded(None, low=1, high=_SEVERITIES)
    written: str = field(default="", metadata={"bound": True})
    files: tuple[()] = field(default=(), metadata={"bound": True})
    splits: tuple[str, ...] = field(default=("test",), metadata={"bound": True})

    @property
    def name(self) -> str:
        """As users write it."""
        return self.written

    def with_options(self, options: Mapping[str, Any]) -> Corrupted:
        """The same: a model has nothing to say of it."""
        return self

    def load(self, split: str, directories: Sequence[Path]) -> ImageSet:
        """The images, from `FOLDER/NAME.npy` and `FOLDER/labels.npy` in the first directory that has them.

        Raises:
            UserError: a file is missing, or is not of the official form.
        """
        known_split(self.name, split, self.splits)
        places = [place for directory in directories for place in (directory / self.folder, directory)]
        pair = []
        for file in (f"{self.path}.npy", "labels.npy"):
            there = search(file, places)
            if there is None:
                looked = ", ".join(map(str, directories))
                raise UserError(
                    f"{self.name}: {self.folder}/{file} not found in {looked}: unpack {self.folder}.tar there"
                )
            pair.append(mapped(there))
        images, labels = pair
        if images.shape != (_SEVERITIES * _EACH, 32, 32, 3) or labels.shape != images.shape[:1]:
            shapes = f"images {images.shape} and labels {labels.shape}"
            raise UserError(f"{self.name}: {shapes}, not five times 10,000 of 32x32x3: unpack {self.folder}.tar again")
        if self.severity is not None:
            part = slice((self.severity - 1) * _EACH, self.severity * _EACH)
            images, labels = images[part], labels[part]
        return set_of_arrays(self.name, split, images, labels, "nhwc", self.classes)

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: it is published as one archive, which is to be unpacked by hand."""
        return []


@data_kinds.register("cifar10c")
@dataclass(frozen=True)
class Cifar10C(Corrupted):
    """CIFAR-10-C."""

    folder: ClassVar[str] = "CIFAR-10-C"
    classes: ClassVar[tuple[str, ...]] = CIFAR10.classes


@data_kinds.register("cifar100c")
@dataclass(frozen=True)
class Cifar100C(Corrupted):
    """CIFAR-100-C."""

    folder: ClassVar[str] = "CIFAR-100-C"
    classes: ClassVar[tuple[str, ...]] = CIFAR100.classes
