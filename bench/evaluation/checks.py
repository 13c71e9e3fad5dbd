"""What must hold of a model before an attack on it means anything."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.files import one_line
from bench.core.types import Classifier, UserError
from bench.ops import losses, passes

_SAMPLE = 32


@dataclass(frozen=True)
class Failure:
    """A check that a model did not pass: its name, and one line that says what was seen and what to do."""

    name: str
    text: str


FATAL = ("input", "shape")
"""Failures that no force overrides: there are no logits to attack."""


def check_labels(labels: Tensor, classes: int, name: str) -> None:
    """Refuse labels (N,) that the model has no class for.

    Raises:
        UserError: a label is outside 0 to classes - 1.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(
            f"{name}: labels reach from {low} to {high}, but the model has {classes} classes: give its data"
        )


def check_images(images: Tensor, name: str = "images") -> None:
    """Refuse images that are not float (N, C, H, W) in [0, 1], and an empty set.

    Raises:
        UserError: what is wrong with them.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise UserError(f"{name}: need float images (N, C, H, W), not {images.dtype} of shape {tuple(images.shape)}")
    if not len(images):
        raise UserError(f"{name}: there are no images: give at least one")
    if not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise UserError(
            f"{name}: values reach from {low:.4g} to {high:.4g}, outside [0, 1]: scale them, and normalise in the model"
        )


def model_failures(model: Classifier, images: Tensor) -> list[Failure]:
    """Run a prepared model on a few images (N, C, H, W) and name what is wrong with it.

    Checked: logits of shape (N, K), finite, deterministic, the same alone as in a batch (to 1e-4 of their spread), and
    an input gradient that exists.
    """
    x = images[:_SAMPLE]
    try:
        logits = passes.reference_outputs(model, x)
    except (RuntimeError, ValueError, IndexError, TypeError) as fault:
        text = f"the model does not take images {tuple(x.shape[1:])} ({one_line(fault)}): give the data it was made for"
        return [Failure("input", text)]
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return [Failure("shape", f"the model returns {seen} for {len(x)} images: it must return logits (N, K), K > 1")]
    if not bool(logits.isfinite().all()):
        return [Failure("finite", "the model's logits hold NaN or infinity on clean images: check weights and input")]
    failures = []
    spread = (logits.amax(1) - logits.amin(1)).clamp_min(1e-6)[:, None]
    if bool((((passes.reference_outputs(model, x) - logits) / spread).abs() > 1e-4).any()):
        text = "two passes over the same images give different logits: give --eot 20, which averages over draws"
        failures.append(Failure("deterministic", text))
    else:
        alone = torch.cat([model(x[i : i + 1]).detach() for i in range(len(x))])
        if bool((((alone - logits) / spread).abs() > 1e-4).any()):
            text = "an image's logits depend on the batch it is in: a layer uses batch statistics in eval mode"
            failures.append(Failure("batch", text))
    try:
        passes.input_gradient(losses.ce, model, x[:4], logits[:4].argmax(1))
    except RuntimeError:
        failures.append(
            Failure("gradient", "the logits have no gradient with respect to the input: give --backward identity")
        )
    return failures


def zero_gradient_share(model: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """The share of images (N, C, H, W) whose cross-entropy gradient is exactly zero everywhere: a sign of masking."""
    zero = 0
    for at in range(0, len(images), batch_size):
        x, y = images[at : at + batch_size], labels[at : at + batch_size]
        _, _, gradient = passes.input_gradient(losses.ce, model, x, y)
        zero += int((gradient == 0).flatten(1).all(1).sum())
    return zero / max(len(images), 1)
