"""The ER-Classifier's nets: an encoder to a few features, a classifier on top (Li et al. 2021, tables 7 and 8).

`features` is the embedding (N, n_z), without activation; `classify` the classifier. The weights are named body and
embed (the encoder) and head (the classifier).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack

from torch import nn

from bench.core.registry import architectures
from bench.core.types import UserError
from bench.models.architectures.assembly import Assembled, Normalise, output_width
from bench.models.architectures.vgg import vgg


class _Codes(TypedDict, total=False):
    classes: int
    in_channels: int
    mean: Sequence[float]
    std: Sequence[float]


def _assembled(body: nn.Module, width: int, dim: int, head: nn.Sequential, codes: _Codes) -> Assembled:
    if dim < 1:
        raise UserError(f"an embedding of {dim} features is none: give dim 1 or more")
    mean, std = codes.get("mean"), codes.get("std")
    normalise = None
    if mean is not None or std is not None:
        normalise = Normalise(mean or [0.0] * len(std or ()), std or [1.0] * len(mean or ()))
    return Assembled(body, head, normalise=normalise, embed=nn.Linear(width, dim))


def _halving(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """4x4 convolutions of stride 2 without bias, batch normalisation on all but the first, ReLU."""
    body = nn.Sequential()
    for number, width in enumerate(widths):
        body.append(nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False))
        if number:
            body.append(nn.BatchNorm2d(width))
        body.append(nn.ReLU())
        channels = width
    return body


def _classifier(dim: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Fully connected layers, batch normalisation and ReLU on all but the last."""
    head, width = nn.Sequential(), dim
    for wider in hidden:
        head.extend([nn.Linear(width, wider), nn.BatchNorm1d(wider), nn.ReLU()])
        width = wider
    return head.append(nn.Linear(width, classes))


@architectures.register("er_mnist")
def er_mnist(
    dim: int = 4,
    *,
    widths: Sequence[int] = (128, 256, 512, 1024),
    fc: Sequence[int] = (500, 256),
    image: int = 28,
    **codes: Unpack[_Codes],
) -> Assembled:
    """MNIST: four convolutions (28, 14, 7, 3, 1 pixels) and a linear map to `dim` codes; classifier 500, 256.

    Narrower `widths` make it trainable on a CPU: the halving and the code stay.

    Raises:
        UserError: the image is too small to be halved so often.
    """
    channels = codes.get("in_channels", 1)
    body = _halving(channels, widths).eval()
    width = output_width(body, channels, image)
    return _assembled(body, width, dim, _classifier(dim, fc, codes.get("classes", 10)), codes).train()


@architectures.register("er_digits")
def er_digits(
    dim: int = 4, *, widths: Sequence[int] = (16, 32), fc: Sequence[int] = (64, 32), **codes: Unpack[_Codes]
) -> Assembled:
    """`er_mnist` for 8x8 images: two convolutions (8, 4, 2 pixels) and a smaller classifier. Ours."""
    made: Assembled = er_mnist(dim, widths=widths, fc=fc, image=8, **codes)
    return made


@architectures.register("er_cifar10")
def er_cifar10(
    dim: int = 16, *, bn: bool = False, dropout: float = 0.5, width: float = 1.0, **codes: Unpack[_Codes]
) -> Assembled:
    """CIFAR-10: VGG-19 without batch normalisation, then a linear map to `dim` codes; a classifier of four layers.

    The classifier's first layer has dropout and no activation, as the paper's code has it. The authors start from
    weights of VGG-19 that are not published with the code; `bn` makes the net trainable from scratch.
    """
    body = vgg(19, bn=bn, in_channels=codes.get("in_channels", 3), width=width).body
    hidden = [nn.Linear(dim, 512), nn.Dropout(dropout), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(dropout)]
    head = nn.Sequential(*hidden, nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, codes.get("classes", 10)))
    return _assembled(body, round(512 * width), dim, head, codes)


@architectures.register("er_stl10")
def er_stl10(
    dim: int = 16,
    *,
    widths: Sequence[int] = (128, 256, 512, 1024, 2048),
    fc: Sequence[int] = (500, 256),
    **codes: Unpack[_Codes],
) -> Assembled:
    """STL-10: five convolutions (96, 48, 24, 12, 6, 3 pixels), a 3x3 one to a single pixel, then `dim` codes."""
    body, last = _halving(codes.get("in_channels", 3), widths), widths[-1]
    body.extend([nn.Conv2d(last, last, 3, stride=2, bias=False), nn.BatchNorm2d(last), nn.ReLU()])
    return _assembled(body, last, dim, _classifier(dim, fc, codes.get("classes", 10)), codes)


@architectures.register("er_tiny_imagenet")
def er_tiny_imagenet(
    dim: int = 20, *, fc: Sequence[int] = (500, 256), width: float = 1.0, **codes: Unpack[_Codes]
) -> Assembled:
    """Tiny ImageNet: VGG-16's thirteen convolutions with batch normalisation, one linear map to `dim` codes.

    The 2x2 pixels that five pools leave are averaged; that and the classifier's widths are not printed: ours.
    """
    body = vgg(16, bn=True, in_channels=codes.get("in_channels", 3), width=width).body
    return _assembled(body, round(512 * width), dim, _classifier(dim, fc, codes.get("classes", 200)), codes)
