"""Classifiers whose nearest adversarial image is known in closed form, and what the tests measure on them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.core.types import Budget, Norm
from bench.ops import losses, norms, passes, rng

_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
SEED = int(os.environ.get("BENCH_TEST_SEED", "0"))
"""Which set of models, images and keys the tests draw: `make test-isa` repeats them with others than set 0."""


def shifted(seed: int) -> int:
    """The seed in place of `seed` in the set that is drawn."""
    return seed + 1000 * SEED


class Linear(nn.Module):
    """Logits of an affine map of the pixels. `sharpness` scales them without moving a boundary."""

    def __init__(self, classes: int, shape: tuple[int, ...], seed: int = 0, sharpness: float = 1.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(shifted(seed))
        size = int(torch.tensor(shape).prod())
        self.weight = nn.Parameter(torch.randn(classes, size, generator=draw) * sharpness)
        self.bias = nn.Parameter(-0.5 * self.weight.detach().sum(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias

    def apart(self, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and distances (N, K) to each class, infinite to the class predicted, without the box."""
        weight, bias = self.weight.detach().double(), self.bias.detach().double()
        logits = x.flatten(1).double() @ weight.T + bias
        y = logits.argmax(1)
        slopes = (weight[None] - weight[y][:, None]).flatten(0, 1)
        dual = norms.size(slopes, _DUAL[norm]).view(len(x), -1)
        gap = logits.gather(1, y[:, None]) - logits
        return logits, (gap / dual).scatter(1, y[:, None], torch.inf)

    def distances(self, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
        """Predictions (N,) and distances (N, K - 1) to the other classes, nearest first, without the box."""
        logits, far = self.apart(x, norm)
        return logits.argmax(1), far.sort(1).values[:, :-1]

    def ahead(self, x: Tensor, norm: Norm) -> Tensor:
        """Whether (N,) the nearest class is the one with the second highest logit, as the margin takes it to be.

        It then has the highest other logit on the whole way to the nearest boundary: the margin's gradient points there
        from the start, and an attack that follows it has no way to end at another class.
        """
        logits, far = self.apart(x, norm)
        return logits.topk(2, dim=1).indices[:, 1] == far.argmin(1)


class Rectified(nn.Module):
    """One hidden layer of rectified units. No closed form: its optimum is approached by other means."""

    def __init__(
        self, classes: int, shape: tuple[int, ...], hidden: int = 32, seed: int = 0, sharpness: float = 20.0
    ) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(shifted(seed))
        size = int(torch.tensor(shape).prod())
        self.first = nn.Parameter(torch.randn(hidden, size, generator=draw) / size**0.5)
        self.second = nn.Parameter(torch.randn(classes, hidden, generator=draw) * sharpness)

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) - 0.5) @ self.first.T).relu() @ self.second.T


def images(count: int, shape: tuple[int, ...], low: float, high: float, seed: int = 1) -> Tensor:
    """Uniform images (N, *shape) in [low, high)."""
    keys = rng.keys(shifted(seed), torch.arange(count), "oracle")
    return low + (high - low) * rng.uniform(keys, shape)


@dataclass(frozen=True)
class Outcome:
    """What an attack returned, judged in double precision; `size` is infinite where the prediction did not change."""

    x_adv: Tensor
    size: Tensor
    margin: Tensor
    forwards: Tensor
    backwards: Tensor


def attack(method: object, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None = None) -> Outcome:
    """Run an attack on images x (N, C, H, W) whose labels are y (N,), and judge it."""
    bound = None if eps is None else torch.full((len(x),), eps, dtype=torch.float64)
    keys = rng.keys(shifted(0), torch.arange(len(x)), "oracle")
    with passes.counted(len(x)) as tally:
        x_adv = method(model, x, y, Budget(norm, bound), keys)  # type: ignore[operator]
    with torch.no_grad():
        logits = model(x_adv)
    size = norms.size(x_adv.double() - x.double(), norm)
    broken = logits.argmax(1) != y
    return Outcome(
        x_adv, torch.where(broken, size, torch.inf), losses.margin(logits, y), tally.forwards, tally.backwards
    )
