"""A model as attacks call it: float32 logits (N, K) of images that are the model's own, whatever form it has.

Most models are that already, and are used as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.types import Classifier, Note
from bench.models.reading import Reading, at, lifted, reading_of
from bench.ops import passes
from bench.ops.frozen import frozen

_AGREES = 1e-4


class Adapted(nn.Module):
    """A model called and read by a `Reading`. The model is a submodule, and is not changed."""

    def __init__(self, model: nn.Module, reading: Reading, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.reading = model, reading
        self.inner = model if inner is None else inner
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) in float32."""
        return self.reading.read(self.model(self.reading.given(x)))


class AdaptedFeatures(Adapted):
    """The same for a model that has features, or whose innermost part has."""

    def features(self, x: Tensor) -> Tensor:
        """Features (N, D) of what reaches the innermost part: a wrapper's normalisation is applied."""
        x = self.reading.given(x)
        if self.inner is self.model:
            return self._method("features", x)
        inner: Any = self.inner
        held = inner.__dict__.get("forward")
        inner.forward = inner.features
        try:
            result: Tensor = at(self.model(x), self.reading.path)
        finally:
            if held is None:
                del inner.forward
            else:
                inner.forward = held
        return result.float()

    def classify(self, z: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        z = z if self.reading.dtype is None else z.to(self.reading.dtype)
        logits = self._method("classify", z)
        return lifted(logits) if self.reading.rules_out else logits

    def _method(self, name: str, *inputs: Tensor) -> Tensor:
        result: Tensor = getattr(self.inner, name)(*inputs)
        return result.float()


class AdaptedCenters(AdaptedFeatures):
    """The same for a model that has class centers too."""

    def class_centers(self) -> Tensor:
        """Centers (K, D)."""
        return self._method("class_centers")


def adapted(model: Classifier, images: Tensor) -> Classifier:
    """A model as attacks want it: itself where it is that, else within an `Adapted`.

    Adapted is a model that returns more than logits or other than float32, that wants another precision, writes into
    its input, rules classes out by -infinity, has its features inside a wrapper, or is TorchScript, which takes no
    hooks. Weights made in inference mode are copied, as no gradient passes through them. A model that does not run on
    the images is left as it is, for `bench.evaluation.checks` to name.

    Args:
        model: whatever is called with images (N, C, H, W) in [0, 1].
        images: a few of them, on the model's device.
    """
    if not isinstance(model, nn.Module):
        return model
    plain = _ready(model)
    with frozen(plain):
        reading = reading_of(plain, images[:16])
        if reading is None:
            return plain
        kind, inner = _features(plain, reading, images[:16])
    usual = reading == Reading() and inner is plain and not isinstance(plain, torch.jit.ScriptModule)
    return plain if usual else kind(plain, reading, inner)


def logits_at(model: object) -> str:
    """Which key, place or attribute of a model's output is taken for its logits; empty where it returns them alone."""
    return ".".join(map(str, model.reading.path)) if isinstance(model, Adapted) else ""


def notes_of(model: object) -> list[Note]:
    """What was adapted of a model."""
    if not isinstance(model, Adapted):
        return []
    notes = list(model.reading.notes())
    if model.inner is not model.model:
        notes.append(Note("wrapper", f"features are those of the {type(model.inner).__name__} inside the model"))
    return notes


def _ready(model: nn.Module) -> nn.Module:
    """The model without a wrapper that only spreads batches, its weights such that gradients pass."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model) if any(tensor.is_inference() for tensor in tensors) else model


def _features(model: nn.Module, reading: Reading, images: Tensor) -> tuple[type[Adapted], nn.Module]:
    """The class that forwards what the model, or the one part of it that has features, offers; and that part."""
    if _offers(model):
        return _class_for(model), model
    parts = list(_outermost(model))
    if len(parts) != 1:
        return Adapted, model
    kind = _class_for(parts[0])
    trial: Any = kind(model, reading, parts[0])
    try:
        logits = passes.reference_outputs(trial, images)
        again = passes.reference_outputs(trial.classify, passes.reference_outputs(trial.features, images))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError):
        return Adapted, model
    spread = logits.amax() - logits.amin()
    same = again.shape == logits.shape and bool(((again - logits).abs() <= _AGREES * spread).all())
    return (kind, parts[0]) if same else (Adapted, model)


def _offers(module: nn.Module) -> bool:
    return all(callable(getattr(module, name, None)) for name in ("features", "classify"))


def _class_for(module: nn.Module) -> type[Adapted]:
    centers: Callable[..., Any] | None = getattr(module, "class_centers", None)
    return AdaptedCenters if callable(centers) else AdaptedFeatures


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a module that have features, but for those inside another such part."""
    for child in module.children():
        if _offers(child):
            yield child
        else:
            yield from _outermost(child)
