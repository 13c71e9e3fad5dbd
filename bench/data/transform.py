"""How a picture becomes an image of one size: resized and cropped as torchvision, timm and transformers do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from PIL import Image

from bench.core.text import shown
from bench.core.types import UserError

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Middle = Literal["nearest", "down"]
_MOST = 1 << 14


@dataclass(frozen=True)
class Transform:
    """What is done to a picture by Pillow: resized, then cropped in its middle. Pictures become RGB.

    Args:
        resize: the side that the shorter one becomes, the longer one in proportion; or a height and a width.
        crop: a height and a width.
        interpolation: how it is resized.
        middle: where half a pixel is left over, whether a crop starts at the nearest even pixel, as in torchvision, or
            at the one before, as in transformers.
    """

    resize: tuple[int, ...] = ()
    crop: tuple[int, ...] = ()
    interpolation: Interpolation = "bilinear"
    middle: Middle = "nearest"

    def __bool__(self) -> bool:
        return bool(self.resize or self.crop)

    def recorded(self) -> dict[str, Any]:
        """Its fields as a record holds them."""
        said = {"resize": list(self.resize), "crop": list(self.crop)}
        return {**said, "interpolation": self.interpolation, "middle": self.middle}

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of a picture once it is resized."""
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        if not self.resize:
            return height, width
        side, short, long = self.resize[0], min(height, width), max(height, width)
        other = int(side * long / short)
        return (side, other) if height <= width else (other, side)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of the image that a picture becomes.

        Raises:
            UserError: it is too small for the crop, or so narrow that it would become too large.
        """
        sides = self.resized(height, width)
        if self.crop and (sides[0] < self.crop[0] or sides[1] < self.crop[1]):
            wanted = "x".join(map(str, self.crop))
            raise UserError(f"is {sides[0]}x{sides[1]} before the crop to {wanted}: give resize= that is large enough")
        if max(sides) > _MOST:
            raise UserError(f"would become {sides[0]}x{sides[1]}: remove it, or give a resize= of two sides")
        return (self.crop[0], self.crop[1]) if self.crop else sides

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The image that a picture becomes."""
        picture = picture.convert("RGB")
        height, width = self.resized(picture.height, picture.width)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if not self.crop:
            return picture
        top, left = (self._start(whole - part) for whole, part in zip((height, width), self.crop, strict=True))
        return picture.crop((left, top, left + self.crop[1], top + self.crop[0]))

    def _start(self, over: int) -> int:
        return over // 2 if self.middle == "down" else round(over / 2)


def transform_of(written: Mapping[str, Any], what: str) -> Transform:
    """The transform that a user's fields, or those of a record, ask for; a crop of one side is a square.

    Raises:
        UserError: a value is of another form.
    """
    known = {field.name for field in fields(Transform)}
    given = {name: value for name, value in written.items() if name in known and value not in (None, "", 0)}
    for name in ("resize", "crop"):
        if name in given:
            sides = given[name] if isinstance(given[name], list | tuple) else [given[name]]
            if len(sides) > 2 or not all(type(side) is int and 0 < side <= _MOST for side in sides):
                raise UserError(f"{what}: {name} cannot be {shown(given[name])}: give one or two sides in pixels")
            given[name] = tuple(sides) * 2 if name == "crop" and len(sides) == 1 else tuple(sides)
    for name, choices in (("interpolation", get_args(Interpolation)), ("middle", get_args(Middle))):
        if name in given and given[name] not in choices:
            raise UserError(f"{what}: {name} cannot be {shown(given[name])}: choose {', '.join(choices)}")
    return Transform(**given)
