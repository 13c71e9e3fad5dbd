"""Small models and images that tests share: made from noise by key, the same in every session."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.types import Budget, Norm
from bench.ops import passes, rng
from bench.ops.softened import softens
from tests.support.oracles import shifted


class Centred(nn.Module):
    """A small convolutional classifier with features and class centers: every attack's needs are met."""

    def __init__(self, classes: int = 5, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.embed = nn.Linear(6 * 36, 8)
        self.register_buffer("centers", torch.zeros(classes, 8))
        for place, weight in enumerate([*self.parameters(), self.centers]):
            key = rng.keys(shifted(place), torch.arange(1), "weights")
            scale = 3.0 / max(weight[0].numel(), 1) ** 0.5
            weight.data.copy_((rng.uniform(key, weight.shape)[0] * 2 - 1) * scale)

    def features(self, x: Tensor) -> Tensor:
        return self.embed(self.conv(x).relu().flatten(1))

    def classify(self, z: Tensor) -> Tensor:
        return z @ self.centers.T

    def class_centers(self) -> Tensor:
        return self.centers

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class Scene:
    """Exemplars for attacks that ask for them."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...] = (1, 6, 6)) -> None:
        self.model, self.shape = model, shape
        self.classes = passes.classes(model, torch.zeros(1, *shape))

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        return images(self.model, 30, self.shape, "exemplars")

    def surrogate(self, name: str) -> nn.Module:
        return self.model

    def softens(self) -> str:
        return softens(self.model, torch.zeros(1, *self.shape))


def linear(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A linear classifier of images of a shape, its weights drawn by key."""
    layer = nn.Linear(math.prod(shape), classes)
    draws = rng.uniform(rng.keys(shifted(0), torch.arange(1), "linear"), layer.weight.shape)[0]
    layer.weight.data.copy_(draws * 2 - 1)
    layer.bias.data.zero_()
    return frozen(nn.Sequential(nn.Flatten(), layer))


def frozen(model: nn.Module) -> nn.Module:
    """In eval mode, without weight gradients."""
    return model.eval().requires_grad_(False)


def images(
    model: Any, count: int, shape: tuple[int, ...] = (1, 6, 6), purpose: str = "images"
) -> tuple[Tensor, Tensor]:
    """Images (count, *shape) and the model's own predictions as their labels."""
    x = rng.uniform(rng.keys(shifted(0), torch.arange(count), purpose), shape)
    with torch.no_grad():
        return x, model(x).argmax(1)


def keys(count: int, purpose: str = "attack") -> Tensor:
    return rng.keys(shifted(0), torch.arange(count), purpose)


def budget(norm: Norm, eps: float | list[float], count: int) -> Budget:
    values = [eps] * count if isinstance(eps, float) else eps
    return Budget(norm, torch.tensor(values, dtype=torch.float64))


EPS: dict[str, float] = {"linf": 0.08, "l2": 0.4, "l1": 2.0}
