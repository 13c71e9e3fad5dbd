"""Sets of encoded pictures: all are looked at first, in constant memory; pixels are read as they are asked for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from bench.core.terminal import announce
from bench.core.types import ImageSet, UserError
from bench.data.formats import Bytes, image_set
from bench.data.lazy import HELD, Lazy
from bench.data.pictures import Shape, decoded, described, opened_picture, shape_of
from bench.data.transform import Transform

_MANY = 5_000
_DIGEST = 16


@dataclass(frozen=True)
class Encoded:
    """Pictures by place: how errors and hashes name them, how their bytes are read, and what is done to them.

    Args:
        names: of each picture, below the set's folder.
        read: the bytes of the picture at a place.
        transform: what is done to it.
        home: what stands before its name in errors.
        digests: the beginning of each picture's sha256, once all have been seen.
    """

    names: Sequence[str]
    read: Callable[[int], bytes]
    transform: Transform
    home: str = ""
    digests: list[bytes] = field(default_factory=list)

    def named(self, place: int) -> str:
        """A picture as errors name it."""
        return f"{self.home}{self.names[place]}"

    def pixels(self, place: int) -> Bytes:
        """The pixels (C, H, W) of a picture that has been seen.

        Raises:
            UserError: it is another one by now, or damaged.
        """
        content = self.read(place)
        if hashlib.sha256(content).digest()[:_DIGEST] != self.digests[place]:
            raise UserError(f"{self.named(place)} has changed since the run began: give back the file as it was")
        with opened_picture(self.named(place), BytesIO(content)) as image:
            return decoded(self.named(place), image, self.transform)


def set_of(pictures: Encoded, labels: NDArray[np.int64], name: str, split: str, classes: tuple[str, ...]) -> ImageSet:
    """Labelled pictures as a set: held in memory if they are few and taken as they are, and else read when asked for.

    The sha256 of pictures that are taken as they are is that of their pixels, as in every other set. That of pictures
    that are resized or cropped is of the transform, and of each one's name, bytes and label.

    Raises:
        UserError: a picture cannot be read, or they differ in size or colour.
    """
    count = len(pictures.names)
    if count > _MANY:
        announce(f"{name} has {count:,} images: all are looked at before the run begins")
    first = _looked_at(pictures, 0)[0]
    if not pictures.transform and 4 * count * math.prod(first) <= HELD:
        return image_set(name, split, _all(pictures, first), labels, classes)
    import torch  # a list of the data sets needs none

    content = hashlib.sha256(repr(pictures.transform or (count, *first)).encode())
    for place in range(count):
        shape, encoded = _looked_at(pictures, place)
        _check_shape(pictures, place, shape, first)
        pictures.digests.append(hashlib.sha256(encoded).digest()[:_DIGEST])
        if pictures.transform:
            content.update(f"{pictures.names[place]}\n".encode())
            content.update(pictures.digests[-1])
        else:
            content.update(np.ascontiguousarray(pictures.pixels(place)).data)
    content.update(labels.astype("<i8").data)
    images = Lazy(pictures.pixels, np.arange(count), first)
    y = torch.from_numpy(labels.astype(np.int64))
    return ImageSet(name, split, images, y, torch.arange(count), content.hexdigest(), classes)


def _looked_at(pictures: Encoded, place: int) -> tuple[Shape, bytes]:
    content = pictures.read(place)
    with opened_picture(pictures.named(place), BytesIO(content)) as image:
        return shape_of(pictures.named(place), image, pictures.transform), content


def _check_shape(pictures: Encoded, place: int, shape: Shape, first: Shape) -> None:
    if shape != first:
        sizes = f"{described(shape)} and not {described(first)} as {pictures.names[0].rpartition('/')[2]}"
        remedy = "make all images the same size and colour, or give resize= and crop="
        raise UserError(f"{pictures.named(place)} is {sizes}: {remedy}")


def _all(pictures: Encoded, first: Shape) -> Bytes:
    pixels = np.empty((len(pictures.names), *first), np.uint8)
    for place in range(len(pictures.names)):
        with opened_picture(pictures.named(place), BytesIO(pictures.read(place))) as image:
            _check_shape(pictures, place, shape_of(pictures.named(place), image, pictures.transform), first)
            pixels[place] = decoded(pictures.named(place), image, pictures.transform)
    return pixels
