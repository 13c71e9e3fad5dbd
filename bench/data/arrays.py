"""Arrays of images in files of numpy: `npz:FILE`, and pairs of files as `npy:images.npy(labels='labels.npy')`."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.files import check_unpacked, memory, one_line
from bench.core.places import expanded, is_file
from bench.core.registry import data_kinds
from bench.core.text import shown
from bench.core.types import ImageSet, UserError
from bench.data.formats import image_set, known_split
from bench.data.lazy import HELD, Lazy

Layout = Literal["", "nchw", "nhwc", "nhw"]

_IMAGES = ("{split}_images", "x_{split}", "X_{split}", "images_{split}", "images", "x", "X", "data", "arr_0")
_LABELS = ("{split}_labels", "y_{split}", "Y_{split}", "labels_{split}", "labels", "y", "Y", "targets", "arr_1")


@data_kinds.register("npz")
@dataclass(frozen=True)
class Npz:
    """A `.npz` with an array of images and one of labels, named as is usual, for each split or for `test` alone.

    Args:
        path: the file.
        images: the name of the images in it, where it is no usual one.
        labels: that of the labels.
        layout: the order of their dimensions, where their shape does not tell.
        written: the whole as it was written.
        files: none that could be fetched.
    """

    path: Path = field(metadata={"bound": True})
    images: str = ""
    labels: str = ""
    layout: Layout = ""
    written: str = field(default="", metadata={"bound": True})
    files: tuple[()] = field(default=(), metadata={"bound": True})

    @property
    def name(self) -> str:
        """As users write it."""
        return self.written

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that arrays are named after, or `test` alone."""
        try:
            with zipfile.ZipFile(expanded(str(self.path))) as archive:
                known = {name.removesuffix(".npy") for name in archive.namelist()}
        except (OSError, zipfile.BadZipFile):
            known = set()
        named = tuple(
            split for split in ("train", "test") if {name.format(split=split) for name in _IMAGES[:4]} & known
        )
        return named if not self.images and named else ("test",)

    def with_options(self, options: Mapping[str, Any]) -> Npz:
        """The same: a model has nothing to say of arrays."""
        return self

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """A whole split; `directories` are not needed.

        Raises:
            UserError: no such file, split or arrays, or arrays that are no labelled images.
        """
        file = _file(self.path, self.name)
        known_split(self.name, split, self.splits)
        check_unpacked(file, memory())
        try:
            with np.load(file, allow_pickle=False) as arrays:
                pair = [arrays[_named(name, usual, split, arrays.files, self.name)] for name, usual in self._wanted()]
        except UserError:
            raise
        except Exception as fault:  # whatever numpy's reader meets in a damaged file
            raise _unreadable(file, fault) from None
        return set_of_arrays(self.name, split, pair[0], pair[1], self.layout)

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are the user's own."""
        return []

    def _wanted(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield self.images, _IMAGES
        yield self.labels, _LABELS


@data_kinds.register("npy")
@dataclass(frozen=True)
class Npy:
    """A `.npy` of images, with one of labels, which is `labels.npy` beside it unless another is named.

    Args:
        path: the images.
        labels: the labels' file.
        layout: the order of the images' dimensions, where their shape does not tell.
        written: the whole as it was written.
        files: none that could be fetched.
    """

    path: Path = field(metadata={"bound": True})
    labels: str = ""
    layout: Layout = ""
    written: str = field(default="", metadata={"bound": True})
    files: tuple[()] = field(default=(), metadata={"bound": True})
    splits: tuple[str, ...] = field(default=("test",), metadata={"bound": True})

    @property
    def name(self) -> str:
        """As users write it."""
        return self.written

    def with_options(self, options: Mapping[str, Any]) -> Npy:
        """The same: a model has nothing to say of arrays."""
        return self

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """All images; `directories` are not needed.

        Raises:
            UserError: no such files, or they hold no labelled images.
        """
        known_split(self.name, split, self.splits)
        images = mapped(_file(self.path, self.name))
        beside = expanded(str(self.path)).with_name("labels.npy")
        return set_of_arrays(
            self.name, split, images, mapped(_file(Path(self.labels or beside), self.name)), self.layout
        )

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are the user's own."""
        return []


def mapped(file: Path) -> NDArray[Any]:
    """The array in a `.npy`, read as it is asked for; nothing is unpickled.

    Raises:
        UserError: it holds none.
    """
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as fault:  # whatever numpy's reader meets in a damaged file
        raise _unreadable(file, fault) from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{file} is no single array: save it with numpy.save")
    return array


def set_of_arrays(
    name: str,
    split: str,
    images: NDArray[Any],
    labels: NDArray[Any],
    layout: Layout = "",
    classes: tuple[str, ...] = (),
) -> ImageSet:
    """Arrays of images, bytes or numbers in [0, 1], and of labels (N,) or (N, 1), as a set.

    Raises:
        UserError: they are something else, or their counts differ.
    """
    x, y = _as_nchw(name, images, layout), labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(y) != len(x) or not len(y):
        shapes = f"{y.dtype} labels {labels.shape} for {len(x)} images"
        raise UserError(f"{name}: {shapes}: give one whole-number label for each image")
    y = y.astype(np.int64)
    if x.dtype == np.uint8 and 4 * x.size <= HELD:
        return image_set(name, split, np.asarray(x), y, classes)
    import torch  # a list of the data sets needs none

    content = hashlib.sha256(repr(x.shape).encode())
    for image in x:
        content.update(np.ascontiguousarray(image).data)
    content.update(y.astype("<i8").data)
    held = Lazy(x.__getitem__, np.arange(len(y)), x.shape[1:]) if x.dtype == np.uint8 else _numbers(name, x)
    return ImageSet(name, split, held, torch.from_numpy(y), torch.arange(len(y)), content.hexdigest(), classes)


def _numbers(name: str, x: NDArray[Any]) -> Any:
    import torch  # a list of the data sets needs none

    if x.dtype.kind != "f":
        raise UserError(f"{name}: images are {x.dtype}: give bytes, or floating-point numbers in [0, 1]")
    if 4 * x.size > memory():
        raise UserError(f"{name}: more images than memory holds: save them as bytes, which are read as they are needed")
    return torch.from_numpy(np.array(x, np.float32, order="C"))


def _as_nchw(name: str, images: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Images as (N, C, H, W), a view."""
    known = layout or _layout(images.shape)
    if known == "nchw" and images.ndim == 4:
        return images
    if known == "nhwc" and images.ndim == 4:
        return images.transpose(0, 3, 1, 2)
    if known == "nhw" and images.ndim == 3:
        return images[:, None]
    remedy = "give layout='nchw' or layout='nhwc', or images (N, H, W)"
    raise UserError(f"{name}: images of shape {images.shape}: {remedy}")


def _layout(shape: tuple[int, ...]) -> Layout:
    """The order of dimensions that a shape tells: the one that is 1 or 3 is the channels."""
    if len(shape) == 3:
        return "nhw"
    first, last = (len(shape) == 4 and shape[place] in (1, 3) for place in (1, -1))
    return "nchw" if first and not last else "nhwc" if last and not first else ""


def _file(path: Path, name: str) -> Path:
    file = expanded(str(path))
    if not is_file(file):
        raise UserError(f"{name}: there is no file {file}: correct the path")
    return file


def _named(name: str, usual: Sequence[str], split: str, known: Sequence[str], what: str) -> str:
    wanted = [name] if name else [each.format(split=split) for each in usual]
    there = next((each for each in wanted if each in known), None)
    if there is None:
        kind = "images" if usual is _IMAGES else "labels"
        held = ", ".join(shown(each) for each in known[:8]) or "nothing"
        raise UserError(f"{what} has no array of {kind} (it holds {held}): name it, as in {kind}='NAME'")
    return there


def _unreadable(file: Path, fault: Exception) -> UserError:
    return UserError(
        f"{file} cannot be read as arrays ({one_line(fault)[:120]}): save it again with numpy, not pickled"
    )
