"""The official file formats, read from bytes, and the set of images they become. Nothing here unpickles."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.files import one_line
from bench.core.types import ImageSet, UserError

Bytes = NDArray[np.uint8]

DIGITS = tuple("0123456789")


class Source(NamedTuple):
    """A file that has been read: its path, for what is said about it, and its unpacked content."""

    path: Path
    content: bytes

    def fault(self, what: str) -> UserError:
        """The error that says what is wrong with the file."""
        return UserError(f"{self.path} {what}: delete it and fetch it again")


def idx(source: Source, dimensions: int) -> Bytes:
    """An array of bytes with so many dimensions from an idx-ubyte file: images (N, H, W) have 3, labels (N,) have 1.

    Raises:
        UserError: another magic number, or another length than the header promises.
    """
    content, start = source.content, 4 + 4 * dimensions
    magic, expected = int.from_bytes(content[:4], "big"), 0x0800 + dimensions
    if len(content) < start or magic != expected:
        raise source.fault(f"is not idx-ubyte: its magic number is {magic}, not {expected}")
    shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
    return _exactly(source, start, shape)


def cifar(source: Source, label_bytes: int) -> tuple[Bytes, Bytes]:
    """Images (N, 3, 32, 32) and label columns (N, label_bytes) from a file of CIFAR's binary version.

    Raises:
        UserError: it does not consist of whole records.
    """
    record = label_bytes + 3 * 32 * 32
    count = len(source.content) // record
    records = _exactly(source, 0, [max(count, 1), record])
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, :label_bytes]


def svhn(source: Source) -> tuple[Bytes, Bytes]:
    """Images (N, 3, 32, 32) and labels (N,) from a cropped-digits `.mat` file, where the digit 0 is labelled 10.

    Raises:
        UserError: not a MATLAB 5 file that holds X (32, 32, 3, N) and y (N, 1).
    """
    from scipy.io import loadmat  # slow to import, and only this data set needs it

    try:
        variables: dict[str, Any] = loadmat(BytesIO(source.content), variable_names=["X", "y"])
        pixels, labels = np.asarray(variables["X"]), np.asarray(variables["y"])
    except Exception as error:  # whatever scipy's reader meets in a damaged file
        raise source.fault(f"is not a MATLAB 5 file with X and y ({one_line(error)})") from None
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3) or pixels.ndim != 4:
        raise source.fault(f"holds X {pixels.shape} {pixels.dtype}, not (32, 32, 3, N) uint8")
    if labels.size != pixels.shape[3] or labels.min() < 1 or labels.max() > 10:
        raise source.fault(f"holds {labels.size} labels for {pixels.shape[3]} images, or some outside 1..10")
    return pixels.transpose(3, 2, 0, 1), (labels.reshape(-1) % 10).astype(np.uint8)


def _exactly(source: Source, start: int, shape: Sequence[int]) -> Bytes:
    size = start + math.prod(shape)
    if len(source.content) != size:
        raise source.fault(f"has {len(source.content):,} bytes, not {size:,}")
    return np.frombuffer(source.content, np.uint8, offset=start).reshape(shape)


def known_split(name: str, split: str, splits: Iterable[str]) -> None:
    """Raise a `UserError` unless the data set has this split."""
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}: choose {' or '.join(splits)}")


def image_set(
    name: str, split: str, pixels: Bytes, labels: NDArray[Any], classes: tuple[str, ...], white: int = 255
) -> ImageSet:
    """A whole split from bytes (N, C, H, W) and labels (N,); the byte `white` becomes 1.

    Its sha256 is that of the shape, the pixels as bytes and the labels as little-endian int64, in this order.
    """
    import torch  # a list of the data sets needs none

    pixels = np.ascontiguousarray(pixels)
    wide = labels.astype("<i8")
    content = hashlib.sha256(repr(pixels.shape).encode())
    content.update(pixels.data)
    content.update(wide.data)
    # A division is rounded once; multiplying by 1/255 would be rounded twice.
    images = torch.from_numpy(np.divide(pixels, np.float32(white), dtype=np.float32))
    y = torch.from_numpy(wide.astype(np.int64))
    return ImageSet(name, split, images, y, torch.arange(len(y)), content.hexdigest(), classes)
