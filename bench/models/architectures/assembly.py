"""A body and a head made into one classifier that can be cut at its features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from bench.core.types import UserError
from bench.models.architectures.heads import CENTER_HEADS, head_of

CENTER_DIM = 256
"""Features under a center head unless `dim` says otherwise (Pang et al. 2020)."""


class Top(TypedDict, total=False):
    """The arguments that every architecture takes and hands to `assemble`."""

    head: str
    classes: int
    dim: int | None
    scale: float
    mean: Sequence[float] | None
    std: Sequence[float] | None


class Normalise(nn.Module):
    """(x - mean) / std by channel. Arguments of the model, not weights: they are not in its state_dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise UserError(
                f"normalisation needs a mean and a positive std a channel, not {mean} and {std}: correct them"
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to the same, normalised."""
        return (x - self.mean) / self.std


class Assembled(nn.Module):
    """A classifier in two parts: `model(x) == model.classify(model.features(x))`.

    Args:
        body: images (N, C, H, W) to (N, width).
        head: features (N, D) to logits (N, K).
        normalise: what images go through first, if anything.
        embed: the body's output to features, if they are not the same.
        cut: for a body that is an `nn.Sequential` of stages, moves the features to the end of its first `cut` stages;
            the later ones then belong to `classify`. The weights keep their names wherever the cut is.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module,
        *,
        normalise: nn.Module | None = None,
        embed: nn.Module | None = None,
        cut: int | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise or nn.Identity()
        self.body = body
        self.embed = embed or nn.Identity()
        self.head = head
        self.cut = cut

    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to features (N, D)."""
        z: Tensor = self.normalise(x)
        if self.cut is None:
            z = self.embed(self.body(z).flatten(1))
        else:
            for stage in islice(self.body.children(), self.cut):
                z = stage(z)
        return z.flatten(1)

    def classify(self, z: Tensor) -> Tensor:
        """Features (N, D) to logits (N, K)."""
        if self.cut is not None:
            for stage in islice(self.body.children(), self.cut, None):
                z = stage(z)
            z = self.embed(z)
        logits: Tensor = self.head(z)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, K)."""
        return self.classify(self.features(x))


class AssembledWithCenters(Assembled):
    """A classifier whose head holds class centers."""

    def class_centers(self) -> Tensor:
        """Centers (K, D)."""
        centers: Tensor = self.head.get_buffer("centers")
        return centers


def assemble(
    body: nn.Module,
    width: int,
    *,
    head: str = "linear",
    classes: int = 10,
    dim: int | None = None,
    scale: float = 10.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    cut: int | None = None,
) -> Assembled:
    """Normalisation, body and head as one model.

    Args:
        body: images (N, C, H, W) to anything that flattens to (N, width).
        width: what the body's output flattens to.
        head: linear, centers (logits W phi, MAT) or nearest (logits -||phi - mu||^2, MMC).
        classes: K.
        dim: features of a linear layer without activation between body and head. Center heads always have one, 256 wide
            by default: a body ends in a ReLU, whose output cannot reach the negative coordinates of the centers.
        scale: C, the norm of the centers.
        mean: by channel, of images in [0, 1]; with `std` the normalisation that the model was trained with.
        std: by channel.
        cut: see `Assembled`; None puts the features just before the head.

    Raises:
        UserError: an unknown head, centers that do not fit, or a cut under a center head (its features are phi).
    """
    has_centers = head in CENTER_HEADS
    if has_centers and cut is not None:
        raise UserError(f"head {head} needs its features just before it: leave out cut")
    if has_centers and dim is None:
        dim = CENTER_DIM
    top = head_of(head, width if dim is None else dim, classes, scale)
    normalise = None
    if mean is not None or std is not None:
        normalise = Normalise(mean or [0.0] * len(std or ()), std or [1.0] * len(mean or ()))
    model = AssembledWithCenters if has_centers else Assembled
    return model(body, top, normalise=normalise, embed=None if dim is None else nn.Linear(width, dim), cut=cut)


def output_width(body: nn.Module, in_channels: int, image: int) -> int:
    """What the output of `body` for one (in_channels, image, image) input flattens to.

    Raises:
        UserError: the image is too small for the body.
    """
    try:
        with torch.no_grad():
            return int(body(torch.zeros(1, in_channels, image, image)).numel())
    except RuntimeError as fault:
        raise UserError(f"{image}x{image} images are too small for this architecture: give a larger image") from fault


def he_normal(module: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan) with zero biases (He et al. 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode=mode, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
