"""What an image processor of transformers does to images: read from its attributes, done by the model or the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.core.types import UserError
from bench.models.preprocessing import NOTHING, Preprocessing

_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_NO_CROP_FROM = 384
"""The size from which ConvNeXT's processor scales images to it whole and crops nothing."""


def preprocessing_of(processor: Any, what: str) -> Preprocessing:
    """Size, mean and std, where the mean and std are those of images in [0, 1].

    Raises:
        UserError: the processor does what is not known here.
    """
    if processor is None:
        return NOTHING
    scale = 255 * float(_of(processor, "rescale_factor", 1 / 255)) if _of(processor, "do_rescale", True) else 255.0
    offset = 1.0 if _of(processor, "rescale_offset", False) else 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if _of(processor, "do_normalize", False):
        mean, std = (_numbers(_of(processor, name, None)) for name in ("image_mean", "image_std"))
        if not mean or len(mean) != len(std):
            raise UserError(f"{what}: its processor has no image_mean and image_std: correct its configuration")
    plain = (mean, std, scale, offset) == ((0.0,), (1.0,), 1.0, 0.0)
    how = _PILLOW.get(int(_of(processor, "resample", None) or 0), "")
    return Preprocessing(
        size=_size(processor),
        resample=how if how in ("nearest", "bilinear", "bicubic") else "bicubic",
        reversed=bool(_of(processor, "do_flip_channel_order", False)),
        mean=() if plain else tuple((offset + number) / scale for number in mean),
        std=() if plain else tuple(number / scale for number in std),
    )


def transform_of(processor: Any) -> dict[str, Any]:
    """How files become images, as `bench.data.transform.Transform` takes it."""
    if processor is None or not _of(processor, "do_resize", False):
        return {}
    size, crop = _sides(_of(processor, "size", None)), _crop(processor)
    share = _of(processor, "crop_pct", None)
    if share and len(size) == 1:  # ConvNeXT's
        size, crop = ((int(size[0] / share),), size * 2) if size[0] < _NO_CROP_FROM else (size * 2, ())
    if not size:
        return {}
    how = _PILLOW.get(int(_of(processor, "resample", None) or 0), "bilinear")
    return {"resize": size, "crop": crop, "interpolation": how, "middle": "down"}


def _size(processor: Any) -> tuple[int, int] | None:
    """The one size that the model is given, if its processor gives it one."""
    known = transform_of(processor)
    sides = known.get("crop") or known.get("resize") or _crop(processor)
    return (sides[0], sides[1]) if sides and len(sides) == 2 else None


def _crop(processor: Any) -> tuple[int, ...]:
    sides = _sides(_of(processor, "crop_size", None)) if _of(processor, "do_center_crop", False) else ()
    return sides * 2 if len(sides) == 1 else sides


def _sides(size: Any) -> tuple[int, ...]:
    """Height and width, or the shortest edge alone; nothing of a size of another kind."""
    if isinstance(size, int):
        return (size,)
    names = ("height", "width", "shortest_edge", "longest_edge")
    known = {name: size.get(name) if isinstance(size, Mapping) else getattr(size, name, None) for name in names}
    height, width, shortest, longest = (int(known[name] or 0) for name in names)
    if height and width:
        return height, width
    return (shortest,) if shortest and not longest else ()


def _of(processor: Any, name: str, default: Any) -> Any:
    value = getattr(processor, name, None)
    return default if value is None else value


def _numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(map(float, value or ()))
