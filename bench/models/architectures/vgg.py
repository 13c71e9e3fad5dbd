"""VGG nets for small images (Simonyan and Zisserman 2015), with one linear layer on top as is usual for CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.registry import architectures, suggestion
from bench.core.types import UserError
from bench.models.architectures.assembly import Assembled, Top, assemble

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class PadTo(nn.Module):
    """Zero-pads images (N, C, H, W) on all sides to at least `side` pixels; larger images pass unchanged."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to (N, C, max(H, side), max(W, side))."""
        rows, columns = (max(self.side - length, 0) for length in x.shape[-2:])
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def vgg(
    depth: int = 16,
    *,
    bn: bool = True,
    in_channels: int = 3,
    pad_to: int = 32,
    width: float = 1.0,
    **top: Unpack[Top],
) -> Assembled:
    """VGG-11, 13, 16 or 19: 3x3 convolutions in five groups, each ending in a 2x2 max-pool; features 512 pooled values.

    Args:
        depth: 11, 13, 16 or 19.
        bn: batch normalisation after every convolution.
        in_channels: C.
        pad_to: five pools need 32 pixels; smaller images (MNIST) are zero-padded to this side.
        width: multiplies all widths.
        **top: see `assemble`.

    Raises:
        UserError: no such depth.
    """
    if depth not in _CONVOLUTIONS:
        raise UserError(f"no VGG of depth {depth}: {suggestion(str(depth), [str(known) for known in _CONVOLUTIONS])}")
    body, channels = nn.Sequential(PadTo(pad_to)), in_channels
    for count, base in zip(_CONVOLUTIONS[depth], _WIDTHS, strict=True):
        for _ in range(count):
            wide = round(base * width)
            body.append(nn.Conv2d(channels, wide, 3, padding=1))
            if bn:
                body.append(nn.BatchNorm2d(wide))
            body.append(nn.ReLU())
            channels = wide
        body.append(nn.MaxPool2d(2))
    body.append(nn.AdaptiveAvgPool2d(1))
    for part in body:
        # Without batch normalisation the default draw shrinks the signal away in 16 layers.
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return assemble(body, channels, **top)


def _of(depth: int) -> Callable[..., Assembled]:
    return partial(vgg, depth)


for _depth in _CONVOLUTIONS:
    architectures.register(f"vgg{_depth}")(_of(_depth))
