"""What a probe looks at: the clean images of a stored run, its adversarial examples, and the model's answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeGuard

import pandas as pd
import torch
from torch import Tensor

from bench.core.types import Classifier, HasFeatures
from bench.ops import passes
from bench.store.record import Record


@dataclass(frozen=True)
class Images:
    """Images x (M, C, H, W) of one attack, or the clean ones: their official `indices` (M,), labels y (M,).

    `broken` (M,) bool, as the run's verdicts have it; False for every clean image.
    """

    attack: str
    norm: str
    eps: float | None
    x: Tensor
    y: Tensor
    indices: Tensor
    broken: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def select(self, which: Tensor | slice) -> Images:
        """Some of them."""
        return replace(self, x=self.x[which], y=self.y[which], indices=self.indices[which], broken=self.broken[which])

    def about(self) -> dict[str, Any]:
        """The columns that say whose images these are."""
        return {"attack": self.attack, "norm": self.norm, "eps": self.eps}


def has_features(model: Classifier) -> TypeGuard[HasFeatures]:
    """Whether a classifier can be cut at its features."""
    return all(callable(getattr(model, name, None)) for name in ("features", "classify"))


@dataclass(frozen=True)
class ProbedRun:
    """A stored run as probes look at it: its clean images, those of each attack, and its record.

    The model takes `batch_size` images at once, on `device`.
    """

    clean: Images
    attacked: tuple[Images, ...]
    record: Record
    batch_size: int
    device: str = "cpu"

    def all(self) -> tuple[Images, ...]:
        """The clean images, then those of each attack."""
        return (self.clean, *self.attacked)

    def first(self, limit: int) -> ProbedRun:
        """Cut down to the first `limit` clean images and what was made of them."""
        if limit >= len(self.clean):
            return self
        clean = self.clean.select(slice(0, limit))
        attacked = tuple(part.select(torch.isin(part.indices, clean.indices)) for part in self.attacked)
        return replace(self, clean=clean, attacked=attacked)

    def batches(self, images: Images) -> Iterator[Images]:
        """Images as the model takes them: a batch at a time, on its device."""
        for at in range(0, len(images), self.batch_size):
            part = images.select(slice(at, at + self.batch_size))
            tensors = {name: getattr(part, name).to(self.device) for name in ("x", "y", "indices", "broken")}
            yield replace(part, **tensors)

    def features(self, model: HasFeatures, images: Images) -> tuple[Tensor, Tensor]:
        """Features (M, D) and logits (M, K) of images, on the CPU."""
        parts = [passes.reference_outputs(model.features, part.x) for part in self.batches(images)]
        z = torch.cat(parts) if parts else passes.reference_outputs(model.features, images.x.to(self.device))
        return z.cpu(), passes.reference_outputs(model.classify, z).cpu()


class Probe(Protocol):
    """Looks at a model and never attacks it anew, but for what its own question asks.

    A frozen dataclass whose fields are its parameters. `needs` names the methods that the model must have: a probe that
    has some may ask for a model of that protocol. Randomness comes from `bench.ops.rng`, keyed by the run's seed.
    """

    needs: ClassVar[tuple[str, ...]]

    def __call__(self, model: Classifier, run: ProbedRun) -> pd.DataFrame:
        """Return a tidy table; fractions in [0, 1], sizes on images in [0, 1]."""
        ...
