"""Plain convolutional nets and the multilayer perceptron: a stem of convolutions, then fully connected stages.

Their stages are named conv, fc1, fc2, ...; `cut` names the stage whose output (after its ReLU) is the features, or a
convolution of the stem, conv1, conv2, ... (after its ReLU, and its pool if it has one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import nn

from bench.core.registry import architectures, suggestion
from bench.core.types import UserError
from bench.models.architectures.assembly import Assembled, Top, assemble, he_normal, output_width
from bench.models.architectures.inner_cut import cut_inside, layers_before


class _Staged(Top, total=False):
    in_channels: int
    image: int
    dropout: float
    cut: str
    zero_head: bool


def _staged(
    stem: nn.Sequential,
    hidden: Sequence[int],
    *,
    in_channels: int = 1,
    image: int = 28,
    dropout: float = 0.0,
    cut: str = "penultimate",
    zero_head: bool = False,
    stem_name: str = "conv",
    **top: Unpack[Top],
) -> Assembled:
    he_normal(stem)
    body = nn.Sequential()
    body.add_module(stem_name, stem)
    width = output_width(stem, in_channels, image)
    for number, wider in enumerate(hidden, start=1):
        stage = nn.Sequential(nn.Linear(width, wider), nn.ReLU())
        if dropout and number < len(hidden):
            stage.append(nn.Dropout(dropout))
        body.add_module(f"fc{number}", stage)
        width = wider
    names = [name for name, _ in body.named_children()]
    inner = [name for name, _ in stem.named_children() if name.startswith("conv")]
    if cut not in [*names, *inner, "penultimate"]:
        raise UserError(f"unknown cut {cut!r}: {suggestion(cut, [*names, *inner, 'penultimate'])}")
    place, layers = stem_name if cut in inner else cut, layers_before(stem, cut)
    # A head that needs its features just before it refuses any cut but the last; an inner one is never the last.
    last = place in ("penultimate", names[-1]) and layers is None
    model = assemble(body, width, cut=None if last else names.index(place) + 1, **top)
    if layers is not None:
        model = cut_inside(model, layers, in_channels, image)
    if zero_head and isinstance(model.head, nn.Linear):
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    return model


def _stem(
    channels: int, widths: Sequence[int], pools: Sequence[int], *, kernel: int = 3, padding: int = 0
) -> nn.Sequential:
    """Convolutions conv1, conv2, ... with ReLU, 2x2 max-pooling after those numbered in `pools`, flattened."""
    stem = nn.Sequential()
    for number, width in enumerate(widths, start=1):
        stem.add_module(f"conv{number}", nn.Conv2d(channels, width, kernel, padding=padding))
        stem.add_module(f"relu{number}", nn.ReLU())
        if number in pools:
            stem.add_module(f"pool{number}", nn.MaxPool2d(2))
        channels = width
    stem.add_module("flatten", nn.Flatten())
    return stem


@architectures.register("carlini_wagner")
def carlini_wagner(widths: Sequence[int] = (32, 32, 32, 32), fc: int = 200, **rest: Unpack[_Staged]) -> Assembled:
    """CNN-4C3F: four 3x3 valid convolutions, two pools, two hidden layers of `fc` (Carlini and Wagner 2017).

    ADR draws it with equal widths, (32,) * 4 and fc 200 for MNIST, (64,) * 4 and fc 256 for CIFAR-10; the original
    doubles after the pool. Dropout 0.5 between the hidden layers.
    """
    rest = {"dropout": 0.5, **rest}
    return _staged(_stem(rest.get("in_channels", 1), widths, (2, 4)), (fc, fc), **rest)


@architectures.register("small_cnn")
def small_cnn(**rest: Unpack[_Staged]) -> Assembled:
    """TRADES' SmallCNN for MNIST: `carlini_wagner` with widths 32, 32, 64, 64 (Zhang et al. 2019).

    The authors start the last layer at zero: `zero_head=True`.
    """
    model: Assembled = carlini_wagner((32, 32, 64, 64), 200, **rest)
    return model


@architectures.register("cnn_a")
def cnn_a(widths: Sequence[int] = (16, 32), fc: int = 100, **rest: Unpack[_Staged]) -> Assembled:
    """CNN-A of certified training: 4x4 convolutions of stride 2, one hidden layer (Dathathri et al. 2020).

    Its published CIFAR-10 weights need mean (.4914, .4822, .4465) and std (.2023, .1994, .2010).
    """
    rest = {"in_channels": 3, "image": 32, **rest}
    channels, stem = rest["in_channels"], nn.Sequential()
    for number, width in enumerate(widths, start=1):
        stem.add_module(f"conv{number}", nn.Conv2d(channels, width, 4, stride=2, padding=1))
        stem.add_module(f"relu{number}", nn.ReLU())
        channels = width
    stem.add_module("flatten", nn.Flatten())
    return _staged(stem, (fc,), **rest)


@architectures.register("lenet")
def lenet(
    widths: Sequence[int] = (32, 64), fc: Sequence[int] = (1024,), padding: int = 2, **rest: Unpack[_Staged]
) -> Assembled:
    """LeNet-style: 5x5 convolutions, a pool after each. The defaults are Madry et al.'s MNIST net (2018).

    LeCun et al. (1998): widths (6, 16), fc (120, 84), padding 0 on 32x32 images.
    """
    stem = _stem(rest.get("in_channels", 1), widths, range(1, len(widths) + 1), kernel=5, padding=padding)
    return _staged(stem, fc, **rest)


@architectures.register("digits_cnn")
def digits_cnn(
    widths: Sequence[int] = (32, 64), fc: Sequence[int] = (128,), pools: int = 1, **rest: Unpack[_Staged]
) -> Assembled:
    """A net for 8x8 images: padded 3x3 convolutions, the last `pools` of them followed by a 2x2 max-pool."""
    rest = {"image": 8, **rest}
    pooled = range(len(widths) - pools + 1, len(widths) + 1)
    return _staged(_stem(rest.get("in_channels", 1), widths, pooled, padding=1), fc, **rest)


@architectures.register("mlp")
def mlp(hidden: Sequence[int] = (256, 256), **rest: Unpack[_Staged]) -> Assembled:
    """A multilayer perceptron on flattened images with ReLU hidden layers; no hidden layer makes it linear."""
    return _staged(nn.Sequential(nn.Flatten()), hidden, stem_name="flatten", **rest)
