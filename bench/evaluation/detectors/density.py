"""Detectors by class density: KD on a classifier's own features, ER on an encoder's few codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import detectors
from bench.core.types import Classifier, HasFeatures, UserError
from bench.data.sampling import first_of_each_class
from bench.evaluation.detectors.detector import Measure, TrainingImages
from bench.evaluation.detectors.kernel_density import ClassDensities, class_densities
from bench.ops import rng

_FOR_BANDWIDTH = 500


def _densities(
    features: Callable[[Tensor], Tensor], training: TrainingImages, bandwidth: float, per_class: int
) -> ClassDensities:
    """Densities of the features of up to `per_class` training images of each class, drawn by key."""
    rank = rng.uniform(rng.keys(training.seed, torch.arange(len(training.labels)), "density"), ()).argsort(stable=True)
    places = rank[first_of_each_class(training.labels[rank], per_class)]
    codes = training.batched(features, training.images[places])
    labels = training.labels[places].to(training.device)
    if not bandwidth and per_class > _FOR_BANDWIDTH:
        few = first_of_each_class(labels, _FOR_BANDWIDTH)
        bandwidth = class_densities(codes[few], labels[few], training.classes).bandwidth
    return class_densities(codes, labels, training.classes, bandwidth)


@detectors.register("kd")
@dataclass(frozen=True)
class KD:
    """Log density of the penultimate features under the class that is predicted (Feinman et al. 2017).

    Density alone, without the paper's dropout variance.

    Args:
        bandwidth: s of the kernel exp(-|z - z_i|^2 / s^2); 0 has it chosen by cross-validation.
        per_class: up to how many training images of each class; the paper takes all.
    """

    bandwidth: float = bounded(0.0, low=0)
    per_class: int = bounded(1000, low=1)

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def measure(self, model: HasFeatures, training: TrainingImages) -> Measure:
        """One measurement; see `Detector`."""
        densities = _densities(model.features, training, self.bandwidth, self.per_class)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            z = model.features(x)
            logits = model.classify(z)
            return densities.log_density(z, logits.argmax(1))[:, None], logits

        return Measure(call, "standard", {"bandwidth": densities.bandwidth, "codes": len(densities.codes)})


@detectors.register("er")
@dataclass(frozen=True)
class ER:
    """ER-Detector: log density of the codes of an ER-Classifier's encoder (Li et al. 2021, algorithm 1).

    The class is the one that the attacked classifier predicts. The paper does not say what sets ER1 and ER2 apart: here
    ER1 is an encoder trained without min-max training and ER2 one with it, ER1- and ER2- the same without a prior, as
    the encoder's stanza says.

    Args:
        encoder: a model of the registry; empty for the attacked one.
        bandwidth: as for `kd`.
        per_class: as for `kd`.
    """

    encoder: str = ""
    bandwidth: float = bounded(0.0, low=0)
    per_class: int = bounded(1000, low=1)

    needs: ClassVar[tuple[str, ...]] = ()

    def measure(self, model: Classifier, training: TrainingImages) -> Measure:
        """One measurement; see `Detector`."""
        encoder = training.encoder(self.encoder) if self.encoder else model
        features = getattr(encoder, "features", None)
        if not callable(features):
            raise UserError("detector 'er' needs codes and the model has no features: name an encoder")
        try:
            training.batched(features, training.images[:1])
        except RuntimeError:
            shape = "x".join(map(str, training.images.shape[1:]))
            raise UserError(f"encoder {self.encoder!r} cannot take {shape} images: name one of the same data") from None
        densities = _densities(features, training, self.bandwidth, self.per_class)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x)
            return densities.log_density(features(x), logits.argmax(1))[:, None], logits

        return Measure(call, "standard", {"bandwidth": densities.bandwidth, "codes": len(densities.codes)})
