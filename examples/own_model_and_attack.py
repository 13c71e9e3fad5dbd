"""A model and an attack of one's own, in one file.

    python examples/own_model_and_attack.py

or, with the same file, from the command line:

    bench run --model examples/own_model_and_attack.py:load --data digits --eps 0.1 \
        --attacks "examples/own_model_and_attack.py:Brightness,pgd,adaptive" --out runs/own
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import bench
from bench.plugin import Budget, Proposals, misclassified, outputs, size

TRAIN = 1437  # the first images train, the others test, as in the data set that `bench` calls digits
EPOCHS = 60


class Net(nn.Module):
    """A small net with `features` and `classify`, so that the latent attack runs on it too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) in [0, 1] to features (N, 64); normalisation is part of the model."""
        return self.body((x - 0.3) / 0.4)

    def classify(self, z: Tensor) -> Tensor:
        """Features (N, 64) to logits (N, 10)."""
        return self.head(z)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images."""
        return self.classify(self.features(x))


def images_and_labels() -> tuple[Tensor, Tensor]:
    """All digits: images (1797, 1, 8, 8) in [0, 1] and labels (1797,)."""
    data = load_digits()
    return torch.tensor(data.images[:, None] / 16).float(), torch.tensor(data.target)


def load() -> nn.Module:
    """The factory that `--model FILE:load` calls. It trains for a second; yours would read weights from a file."""
    torch.manual_seed(0)
    model, (images, labels) = Net(), images_and_labels()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[:TRAIN]), labels[:TRAIN]).backward()
        optimizer.step()
    return model


@dataclass(frozen=True)
class Brightness:
    """The smallest change of brightness that is misclassified: every pixel moves by the same amount, clipped."""

    steps: int = 20

    needs: ClassVar = ()
    norms: ClassVar = ("linf",)
    minimal: ClassVar = True

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); images that nothing fools come back clean."""
        proposals = Proposals(x)
        for step in range(1, self.steps + 1):
            for sign in (-1, 1):
                rows = proposals.missing  # images that are fooled have left
                z = (x[rows] + sign * step / self.steps).clamp(0, 1)
                fooled = misclassified(outputs(model, z, rows=rows), y[rows])
                proposals.record_smaller(rows, z, fooled, size(z - x[rows], "linf"))
        return proposals.x_adv


def main() -> None:
    """Attack the model with PGD, the adaptive attacks and `Brightness`, and print the table."""
    images, labels = images_and_labels()
    attacks = f"pgd(steps=10),adaptive(steps=10),{os.path.relpath(__file__)}:Brightness"
    run = bench.evaluate(load(), images[TRAIN:][:100], labels[TRAIN:][:100], attacks, "linf", 0.1, name="my net")
    print(run)
    print(f"\nquote this: {run.worst()['robust_accuracy'].item():.0%} robust at linf 0.1")


if __name__ == "__main__":
    main()
