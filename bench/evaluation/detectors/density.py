"""Detectors by class density: KD on a classifier's own features, ER on an encoder's few codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.registry import detectors
from bench.core.types import UserError
from bench.evaluation.detectors.detector import Known, Measure
from bench.evaluation.detectors.kernel_density import ClassDensities, class_densities
from bench.ops import rng

_FOR_BANDWIDTH = 500


def _densities(model: Any, known: Known, bandwidth: float, per_class: int) -> ClassDensities:
    """Densities of a model's features of up to `per_class` training images of each class, drawn by key."""
    rank = rng.uniform(rng.keys(known.seed, torch.arange(len(known.labels)), "density"), ()).argsort(stable=True)
    groups = [rank[known.labels[rank] == t][:per_class] for t in range(known.classes)]
    places = torch.cat(groups)
    codes, labels = known.batched(model.features, known.images[places]), known.labels[places].to(known.device)
    if not bandwidth and per_class > _FOR_BANDWIDTH:
        few = torch.cat([(labels == t).nonzero().flatten()[:_FOR_BANDWIDTH] for t in range(known.classes)])
        bandwidth = class_densities(codes[few], labels[few], known.classes).bandwidth
    return class_densities(codes, labels, known.classes, bandwidth)


def _check(name: str, bandwidth: float, per_class: int) -> None:
    if bandwidth < 0 or per_class < 1:
        raise UserError(f"{name}: bandwidth {bandwidth} and per_class {per_class}: give 0 or more, and 1 or more")


@detectors.register("kd")
@dataclass(frozen=True)
class KD:
    """Log density of the penultimate features under the class that is predicted (Feinman et al. 2017).

    Density alone, without the paper's dropout variance. `bandwidth` s is the kernel's exp(-|z - z_i|^2 / s^2); 0 is
    chosen by cross-validation. Up to `per_class` training images a class; the paper takes all.
    """

    bandwidth: float = 0.0
    per_class: int = 1000

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def measure(self, model: Any, known: Known) -> Measure:
        """One measurement; see `Detector`."""
        _check("kd", self.bandwidth, self.per_class)
        densities = _densities(model, known, self.bandwidth, self.per_class)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            z = model.features(x)
            logits = model.classify(z)
            return densities.log_density(z, logits.argmax(1))[:, None], logits

        return Measure(call, "standard", {"bandwidth": densities.bandwidth, "codes": len(densities.codes)})


@detectors.register("er")
@dataclass(frozen=True)
class ER:
    """ER-Detector: log density of the codes of an ER-Classifier's encoder (Li et al. 2021, algorithm 1).

    The class is the one that the attacked classifier predicts. `encoder` is a model of the registry, by default the
    attacked one. The paper does not say what sets ER1 and ER2 apart: here ER1 is an encoder trained without min-max
    training and ER2 one with it, ER1- and ER2- their twins without a prior, as the encoder's stanza says.
    """

    encoder: str = ""
    bandwidth: float = 0.0
    per_class: int = 1000

    needs: ClassVar[tuple[str, ...]] = ()

    def measure(self, model: Any, known: Known) -> Measure:
        """One measurement; see `Detector`."""
        _check("er", self.bandwidth, self.per_class)
        encoder = known.encoder(self.encoder) if self.encoder else model
        if not callable(getattr(encoder, "features", None)):
            raise UserError("detector 'er' needs codes and the model has no features: name an encoder")
        try:
            known.batched(encoder.features, known.images[:1])
        except RuntimeError:
            shape = "x".join(map(str, known.images.shape[1:]))
            raise UserError(f"encoder {self.encoder!r} cannot take {shape} images: name one of the same data") from None
        densities = _densities(encoder, known, self.bandwidth, self.per_class)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x)
            return densities.log_density(encoder.features(x), logits.argmax(1))[:, None], logits

        return Measure(call, "standard", {"bandwidth": densities.bandwidth, "codes": len(densities.codes)})
