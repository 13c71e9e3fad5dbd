"""Pictures in the common formats, read from bytes by Pillow: headers first, and nothing that starts another program."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.core.files import one_line
from bench.core.types import UserError
from bench.data.formats import Bytes
from bench.data.transform import Transform

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
"""The readers that are tried: none of them starts another program, as that of EPS does."""
_MOST_PIXELS = 1 << 24
# What becomes grey or RGB bytes without loss; an alpha channel or 16 bits would not.
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
# What a transform makes RGB, as other libraries' loaders do.
_CONVERTED = frozenset({*_MODES, "CMYK", "YCbCr", "RGBA", "LA", "PA"})

Shape = tuple[int, int, int]


@contextmanager
def opened_picture(name: object, file: BinaryIO) -> Iterator[Image.Image]:
    """A picture whose header has been read, but no pixel.

    Args:
        name: what errors call it.
        file: its bytes.
    """
    try:
        with warnings.catch_warnings():  # of large sizes, which are refused here, and of damaged tags
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=_FORMATS)
    except Exception as error:  # whatever the readers of the formats raise at a damaged header
        raise _unreadable(name, error) from None
    with image:
        yield image


def shape_of(name: object, image: Image.Image, transform: Transform) -> Shape:
    """(C, H, W) of the image that a picture becomes, as its header says.

    Raises:
        UserError: it is stored in a way that would lose something, it is too large, or too small for the transform.
    """
    if image.mode not in (_CONVERTED if transform else _MODES):
        raise UserError(f"{name} is stored as {image.mode}: convert it to 8-bit grey or RGB")
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise UserError(f"{name} is {width}x{height}, more than {_MOST_PIXELS:,} pixels: make it smaller")
    if not transform:
        return (1 if _MODES[image.mode] == "L" else 3), height, width
    try:
        return 3, *transform.shape(height, width)
    except UserError as fault:
        raise UserError(f"{name} {fault}") from None


def decoded(name: object, image: Image.Image, transform: Transform) -> Bytes:
    """The pixels (C, H, W) of the image that a picture becomes."""
    try:
        with warnings.catch_warnings():  # of damaged tags, which pixels do not need
            warnings.simplefilter("ignore")
            pixels = np.asarray(transform(image) if transform else image.convert(_MODES[image.mode]))
    except Exception as error:  # whatever a decoder raises at damaged content
        raise _unreadable(name, error) from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def described(shape: Shape) -> str:
    """A shape in words."""
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"


def _unreadable(name: object, error: Exception) -> UserError:
    unknown = isinstance(error, UnidentifiedImageError)
    text = f"it is none of {', '.join(_FORMATS)}" if unknown else one_line(error)[:120]
    return UserError(f"{name} cannot be read as an image ({text}): replace or remove it")
