"""What a model does to images (N, C, H, W) in [0, 1] before its first layer, as a part of the model itself.

So eps is a size in images, and every attack's gradient passes through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.text import shown
from bench.core.types import UserError

_SMOOTH = ("bilinear", "bicubic")
"""What interpolates between pixels; these average over pixels where an image becomes smaller, as Pillow does."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to images, in this order.

    Args:
        size: the height and width that they are brought to where they have others; None leaves them.
        resample: how: bilinear, bicubic or nearest.
        reversed: whether channels are given in reverse, blue first.
        mean: a number a channel, or one for all, that is taken away. Empty: nothing is.
        std: what the rest is divided by, likewise.
    """

    size: tuple[int, int] | None = None
    resample: str = "bilinear"
    reversed: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def recorded(self) -> dict[str, Any]:
        """What a record says of it; nothing where nothing is done."""
        said: dict[str, Any] = {}
        if self.size is not None:
            said |= {"size": list(self.size), "resample": self.resample}
        if self.reversed:
            said["channels"] = "reversed"
        if self.mean:
            said["normalise"] = {"mean": list(self.mean), "std": list(self.std)}
        return said


NOTHING = Preprocessing()


class Preprocessed(nn.Module):
    """A model behind its preprocessing, which computes in float32 whatever the model's own precision is."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, steps: Preprocessing) -> None:
        super().__init__()
        self.model, self.steps = model, steps
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(steps.mean or (0.0,)).reshape(shape))
        self.register_buffer("std", torch.tensor(steps.std or (1.0,)).reshape(shape))
        weights = [weight for weight in model.parameters() if weight.is_floating_point()]
        self.dtype = weights[0].dtype if weights else torch.float32

    def forward(self, x: Tensor) -> Any:
        """Whatever the model answers."""
        x = resized(x, self.steps)
        x = x.flip(1) if self.steps.reversed else x
        x = (x - self.mean) / self.std if self.steps.mean else x
        return self.model(x if self.dtype == torch.float32 else x.to(self.dtype))


def resized(x: Tensor, steps: Preprocessing) -> Tensor:
    """Images of the size that is wanted, again in [0, 1]; those that have it are left as they are."""
    if steps.size is None or tuple(x.shape[-2:]) == steps.size:
        return x
    if steps.resample not in _SMOOTH:
        return F.interpolate(x, steps.size, mode="nearest-exact")
    x = F.interpolate(x, steps.size, mode=steps.resample, align_corners=False, antialias=True)
    return x.clamp(0, 1) if steps.resample == "bicubic" else x  # a cubic goes beyond the pixels between which it runs


def preprocessed(model: nn.Module, steps: Preprocessing) -> nn.Module:
    """A model with its preprocessing in front; the model itself where there is none."""
    return Preprocessed(model, steps) if steps != Preprocessing(resample=steps.resample) else model


def normalising(written: Mapping[str, Any], what: str) -> Preprocessing:
    """The preprocessing that `{mean = [...], std = [...]}` asks for.

    Raises:
        UserError: it has another form, numbers that differ in their count, or a std that is not above 0.
    """
    if not written:
        return NOTHING
    remedy = "write { mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2] }, a number a channel"
    if set(written) != {"mean", "std"}:
        raise UserError(f"{what}: normalise has {', '.join(map(shown, written))}: {remedy}")
    mean, std = (_numbers(value) for value in (written["mean"], written["std"]))
    if mean is None or std is None or len(mean) != len(std) or min(std) <= 0:
        raise UserError(f"{what}: normalise cannot be {shown(dict(written))}: {remedy}")
    return Preprocessing(mean=mean, std=std)


def _numbers(value: Any) -> tuple[float, ...] | None:
    """The finite numbers of a list, or of one number; None where there are others or none."""
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    plain = parts and all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)
    numbers = tuple(map(float, parts)) if plain else ()
    return numbers if numbers and all(abs(number) < float("inf") for number in numbers) else None
