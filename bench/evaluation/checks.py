"""What must hold of a model before an attack on it means anything: failures refuse a run, notes go into its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.core.files import one_line
from bench.core.types import Classifier, UserError
from bench.ops import losses, no_gradient, passes
from bench.ops.global_random import seeded

_SAMPLE, _ALONE, _AGAIN = 32, 3, 4
_AGREES, _ROUNDING = 1e-4, 1e-6


@dataclass(frozen=True)
class Failure:
    """A check that a model did not pass: its name, and one line that says what was seen and what to do."""

    name: str
    text: str


FATAL = ("input", "shape")
"""Failures that no force overrides: there are no logits to attack."""
OF_GRADIENTS = ("gradient", "finite gradient")
"""Failures that do not concern attacks which use no gradient of the model."""


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
    if not images.isfinite().all():
        raise UserError(f"{name}: there are values that are not finite: give images in [0, 1]")
    if not (images.min() >= 0 and images.max() <= 1):
        low, high = (_bound(value.item()) for value in (images.min(), images.max()))
        raise UserError(
            f"{name}: values reach from {low} to {high}, outside [0, 1]: scale them, and normalise in the model"
        )


def _bound(value: float) -> str:
    """A number in four digits, or as many as show that it is not 0 or 1."""
    short = f"{value:.4g}"
    return f"{value:.9g}" if float(short) in (0, 1) and value != float(short) else short


def model_failures(model: Classifier, images: Tensor) -> list[Failure]:
    """Run a prepared model on a few images (N, C, H, W) and name what is wrong with it.

    Checked: logits of shape (N, K), finite but for classes that are ruled out by -infinity, deterministic, the same
    alone as in a batch (to 1e-4 of their spread), and an input gradient that exists and is finite.
    """
    x = images[:_SAMPLE]
    try:
        logits = passes.reference_outputs(model, x)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError) as fault:
        return [_unusable(model, x, fault)]
    if logits.dim() != 2 or logits.shape[1] < 2:
        return [_shapeless(tuple(logits.shape), len(x))]
    if not bool(passes.tells(logits).all()):
        return [Failure("finite", "the model's logits hold NaN or infinity on clean images: check weights and input")]
    return [*_unsteady(model, x, logits), *_steep(model, x, logits)]


def _shapeless(seen: Any, count: int) -> Failure:
    text = f"the model returns {seen} for {count} images: it must return logits (N, K), K > 1"
    return Failure("shape", text)


def _unusable(model: Classifier, x: Tensor, fault: Exception) -> Failure:
    """Why a model gives no logits: what it returns is none, or it does not take such images."""
    try:
        with torch.no_grad():
            output = model(x.clone())
    except Exception as refusal:  # whatever a user's module raises
        text = one_line(refusal)
        remedy = "give it data of the shape that it was made for"
        if any(sign in text.lower() for sign in ("dtype", "scalar type", "same type", "input type", "quantized")):
            remedy = "give weights of one floating-point type, or cast inside the model"
        return Failure("input", f"the model does not take images {tuple(x.shape[1:])} ({text}): {remedy}")
    if isinstance(output, Tensor):
        return Failure("input", f"the model does not take {len(x)} images {tuple(x.shape[1:])} ({one_line(fault)})")
    return _shapeless(f"{type(output).__name__} without a tensor (N, K)", len(x))


def differs(some: Tensor, other: Tensor) -> bool:
    """Whether any logits (N, K) differ by more than 1e-4 of the row's spread, rounding apart."""
    spread = (some.amax(1) - some.amin(1)).nan_to_num(0, 0)[:, None]
    slack = _AGREES * spread + _ROUNDING * some.abs().nan_to_num(0, 0, 0).amax(1, keepdim=True)
    return bool((((some - other).abs() > slack) & (some != other)).any())


def _unsteady(model: Classifier, x: Tensor, logits: Tensor) -> list[Failure]:
    """Whether the same image gets other logits in a later pass, or by itself."""
    # A model that draws one of a few things at each call answers the same now and then.
    if any(differs(logits, passes.reference_outputs(model, x)) for _ in range(_AGAIN)):
        return [_drawn(model, x)]
    if not quantised(model) and depends_on_batch(model, x, logits):
        text = "an image's logits depend on the batch it is in: a layer uses batch statistics in eval mode"
        return [Failure("batch", text)]
    return []


def _drawn(model: Classifier, x: Tensor) -> Failure:
    """Why passes differ: the model draws random numbers, or remembers what it was asked."""
    seen = []
    for _ in range(3):
        with seeded(model, "checks"):
            seen.append(passes.reference_outputs(model, x))
    if differs(seen[0], seen[1]) or differs(seen[0], seen[2]):
        text = (
            "passes over the same images give different logits though nothing is drawn at random: the model keeps state"
        )
        return Failure("state", f"{text} between calls; make forward a function of its images alone")
    text = "passes over the same images give different logits: give --eot 20, which averages over draws"
    return Failure("deterministic", text)


def depends_on_batch(model: Classifier, x: Tensor, logits: Tensor) -> bool:
    """Whether images x (N, C, H, W) by themselves, a few of them, get other logits than in their batch (N, K)."""
    alone = torch.cat([passes.reference_outputs(model, x[i : i + 1]) for i in range(min(_ALONE, len(x)))])
    return differs(logits[: len(alone)], alone)


def quantised(model: object) -> bool:
    """Whether a model computes with integers, whose scale may be that of a whole batch."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    return any(".quantized" in type(part).__module__ for part in parts)


def _infers(model: object, x: Tensor) -> bool:
    """Whether a module of the model, or the model itself, makes what it hands on in inference mode."""
    seen = list[bool]()

    def look(_module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
        seen.extend(part.is_inference() for part in (*inputs, output) if isinstance(part, Tensor))

    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    hooks = [part.register_forward_hook(look) for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    try:
        passes.reference_outputs(cast(Classifier, model), x)
    finally:
        for hook in hooks:
            hook.remove()
    return any(seen)


def _steep(model: Classifier, x: Tensor, logits: Tensor) -> list[Failure]:
    """Whether cross-entropy has no gradient at the images, or one that is not finite at any."""
    try:
        _, _, gradient = passes.input_gradient(losses.ce, model, x[:4], logits[:4].argmax(1))
    except passes.NoGradientError as absent:
        why = no_gradient.refusal(no_gradient.INFERENCE) if _infers(model, x[:4]) else absent
        return [Failure("gradient", str(why))]
    except RuntimeError as fault:
        if passes.out_of_memory(fault):
            raise
        return [Failure("gradient", f"a pass with a gradient fails where one without does not ({one_line(fault)})")]
    if bool(gradient.flatten(1).isfinite().all(1).any()):
        return []
    text = "the input gradient holds NaN or infinity though the logits are finite: look for a root, norm or log at 0"
    return [Failure("finite gradient", text)]


def admitted(failures: Sequence[Failure], attacks: Sequence[Any], force: bool) -> tuple[str, ...]:
    """The names of the failures that a run goes on with: because it is forced to, or no attack needs a gradient.

    Raises:
        UserError: a failure refuses the run.
    """
    fatal = [failure for failure in failures if failure.name in FATAL]
    free = bool(attacks) and all(getattr(attack, "gradient_free", False) for attack in attacks)
    held = fatal or [failure for failure in failures if not force and not (free and failure.name in OF_GRADIENTS)]
    if held:
        seen = "; ".join(f"check {failure.name!r} failed: {failure.text}" for failure in held)
        raise UserError(seen if fatal else f"{seen} (--force goes on, and the run records it)")
    return tuple(failure.name for failure in failures)


def zero_gradient_share(model: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """The share of images (N, C, H, W) whose cross-entropy gradient is exactly zero everywhere: a sign of masking."""
    zero = 0
    for at in range(0, len(images), batch_size):
        x, y = images[at : at + batch_size], labels[at : at + batch_size]
        _, _, gradient = passes.input_gradient(losses.ce, model, x, y)
        zero += int((gradient == 0).flatten(1).all(1).sum())
    return zero / max(len(images), 1)
