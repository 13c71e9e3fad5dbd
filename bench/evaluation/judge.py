"""x_adv to verdict: the only judgement there is, in float32 (sizes in float64), outside every attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import NOT_FINITE, Classifier, Norm
from bench.models import precision
from bench.ops import norms, passes
from bench.ops.global_random import seeded

DRAWS = 10
"""Passes by which the class of a random model on an image is settled, unless the user says another number."""


@dataclass(frozen=True)
class Judgement:
    """What proposed images are: predictions (N,) int64, sizes (N,) float64, lawfulness (N,) bool."""

    adv_pred: Tensor
    size: Tensor
    lawful: Tensor


def predictions(logits: Tensor) -> Tensor:
    """Predicted classes (N,); NOT_FINITE where a row of logits tells none (see `passes.tells`)."""
    return torch.where(passes.tells(logits), logits.argmax(1), NOT_FINITE)


@dataclass(frozen=True)
class Repeated:
    """How the predictions of a random model are settled: by `draws` passes, each with a seed of its own.

    An image is misclassified if more than half of its passes name another class than `labels` (N,). Each is put to the
    model by itself, and the draws' seeds are made of the run's `seed` and its place `indices` (N,) in the data: the
    prediction depends on no other image, and is the same whenever it is made again, by whatever attack the image came.
    """

    draws: int
    seed: int
    labels: Tensor
    indices: Tensor

    def at(self, rows: Tensor | slice) -> Repeated:
        """The same for some of the images."""
        return Repeated(self.draws, self.seed, self.labels[rows], self.indices[rows])

    def votes(self, model: Classifier, x: Tensor) -> list[list[int]]:
        """Predictions of every draw on each of the images (N, C, H, W)."""
        votes = []
        for image, index in zip(x, self.indices.tolist(), strict=True):
            # Twice, for there are models that lose the first axis of a batch of one.
            pair, seen = image.expand(2, *image.shape), []
            for draw in range(self.draws):
                with torch.no_grad(), seeded(model, self.seed, "judge", index, draw):
                    seen.append(predictions(model(pair.clone())[:1]))
            votes.append(torch.cat(seen).tolist())
        return votes

    def predictions(self, model: Classifier, x: Tensor) -> Tensor:
        """Predicted classes (N,) int64 on x's device."""
        votes = zip(self.votes(model, x), self.labels.tolist(), strict=True)
        return torch.tensor([outcome(*pair) for pair in votes], dtype=torch.int64, device=x.device)


def outcome(votes: Sequence[int], label: int) -> int:
    """The class that draws settle on: the label, or the most frequent other one if more than half name another.

    The lowest of classes that are named equally often; NOT_FINITE where a draw held NaN or infinity.
    """
    wrong = [vote for vote in votes if vote != label]
    if NOT_FINITE in votes:
        return NOT_FINITE
    return min(wrong, key=lambda vote: (-wrong.count(vote), vote)) if 2 * len(wrong) > len(votes) else label


def settled(model: Classifier, x: Tensor, repeated: Repeated | None = None) -> Tensor:
    """Predicted classes (N,) of images (N, C, H, W): of one pass, or as `repeated` says for a random model."""
    if repeated is not None:
        return repeated.predictions(model, x)
    return predictions(passes.reference_outputs(model, x))


def judge(
    model: Classifier,
    x: Tensor,
    x_adv: Tensor,
    clean_pred: Tensor,
    norm: Norm,
    eps: Tensor | None,
    repeated: Repeated | None = None,
) -> Judgement:
    """Judge the adversarial examples that an attack proposes.

    What is lawful says `bench.ops.norms.lawful`. An image that was not changed is not run through the model again. An
    unlawful proposal keeps its size, so that the fault can be seen.

    Args:
        model: what is attacked, never a copy to search on.
        x: clean images (N, C, H, W).
        x_adv: proposals (N, C, H, W).
        clean_pred: predictions (N,) on the clean images.
        norm: in which sizes are measured.
        eps: (N,), or None where any size is allowed.
        repeated: how predictions are settled, if the model is random.
    """
    x_adv = x_adv.to(x)
    size, lawful = norms.lawful(x_adv, x, norm, eps)
    finite = x_adv.flatten(1).isfinite().all(1)
    adv_pred = torch.where(finite, clean_pred, NOT_FINITE)
    changed = ((x_adv != x).flatten(1).any(1) & finite).nonzero().squeeze(1)
    if len(changed):
        with precision.precision(tf32=False):
            adv_pred[changed] = settled(model, x_adv[changed], repeated and repeated.at(changed.cpu()))
    return Judgement(adv_pred, size, lawful)
