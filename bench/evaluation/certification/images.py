"""Images certified one by one: lower bounds of their margins as rows of a `certified.csv`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.bounds import margins
from bench.bounds.network import Network, network
from bench.bounds.region import Region
from bench.core import verdicts
from bench.core.text import shown
from bench.core.types import NOT_FINITE, ImageSet, Norm, UserError
from bench.evaluation.judge import settled
from bench.models.adapted import adapted
from bench.ops.frozen import frozen
from bench.store import certificates
from bench.store.certificates import Row

_AT_ONCE = 128


@dataclass(frozen=True)
class Image:
    """An image (C, H, W) to be certified, its label, the prediction on it, and its place in the data."""

    x: Tensor
    label: int
    clean_pred: int
    index: int


def certified(
    net: Network,
    image: Image,
    norm: Norm,
    eps: float,
    methods: tuple[str, ...] = margins.METHODS,
    floor: Row | None = None,
) -> Row:
    """What can be proven of one image: that none which the judge calls lawful is misclassified.

    So the radius is not eps but what is lawful at it, rounding of float32 storage included. `floor` is the row at a
    larger eps: its bound holds here too.
    """
    began = time.monotonic()
    about = (image.index, image.label, norm, eps)
    if image.clean_pred not in (image.label, NOT_FINITE):
        return Row(*about, "false", None, "clean", 0.0)
    region = Region.around(image.x, norm, verdicts.allowed(eps, image.x.numel(), norm))
    made = margins.margin(net, region, image.label, methods)
    value = None if made.failed or image.clean_pred == NOT_FINITE else made.value
    verdict: certificates.Verdict = "failed" if value is None else "true" if value > 0 else "unknown"
    row = Row(*about, verdict, value, made.method, round(time.monotonic() - began, 4))
    return certificates.at_least(row, floor)


def of_images(model: nn.Module, data: ImageSet, norm: Norm, eps: float, method: str | None = None) -> list[Row]:
    """A row for each image of a set.

    Raises:
        UserError: there is no such method, no bound for the norm, or a layer is not supported.
    """
    if method is not None and method not in margins.METHODS:
        raise UserError(f"unknown method {shown(method)}: give {', '.join(margins.METHODS)}, or None for all in turn")
    images = data.images[:]
    subject: Any = adapted(model, images[:16])
    with frozen(subject):
        net = network(subject, images[:16])
        parts = [settled(subject, part) for part in torch.split(images, _AT_ONCE)]
    about = zip(images, data.labels.tolist(), torch.cat(parts).tolist(), data.indices.tolist(), strict=True)
    methods = margins.METHODS if method is None else (method,)
    return [certified(net, Image(*one), norm, eps, methods) for one in about]
