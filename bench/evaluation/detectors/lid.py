"""Local intrinsic dimensionality, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.core.fields import bounded
from bench.core.registry import detectors
from bench.core.types import UserError
from bench.evaluation.detectors.detector import Measure, TrainingImages
from bench.evaluation.detectors.kernel_density import squared_distances
from bench.ops import rng

_LARGEST = 1e3
_TINY = 1e-24
_LAYERS = (nn.Conv2d, nn.Linear)


def layers(model: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The input, then the output of every convolution and linear layer in turn, flattened (N, P); and the logits."""
    outputs = [x.flatten(1)]

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs.append(output.flatten(1))

    hooks = [part.register_forward_hook(keep) for part in model.modules() if isinstance(part, _LAYERS)]
    try:
        logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, logits


def local_dimension(points: Tensor, others: Tensor, k: int) -> Tensor:
    """LID (N,) = -k / sum_{j <= k} log(r_j / r_k) of points (N, P) among others (M, P), at most 1000.

    r_j is the distance to the j-th nearest (Ma et al. 2018, eq. 4). Equal distances, such as those among constant
    activations, have LID infinity, here 1000; a distance of 0 counts as 1e-12.
    """
    centre = others.double().mean(0)
    squared = squared_distances(points.double() - centre, others.double() - centre)
    logs = squared.topk(k, dim=1, largest=False).values.clamp_min(_TINY).log() / 2
    return 1 / (logs[:, -1:] - logs).mean(1).clamp_min(1 / _LARGEST)


@detectors.register("lid")
@dataclass(frozen=True)
class LID:
    """Local intrinsic dimensionality of each layer's output among `minibatch` clean images (Ma et al. 2018).

    The paper measures within the minibatch that an image came in. Here the minibatch is always the same, drawn by key
    from the training images, so that an image's score depends on nothing but the image, and no neighbour is the image
    itself. LID is differentiable through the distances to the neighbours.

    Args:
        k: how many neighbours.
        minibatch: of how many images.
    """

    k: int = bounded(20, low=2)
    minibatch: int = bounded(100, low=2)

    needs: ClassVar[tuple[str, ...]] = ("modules",)

    def measure(self, model: nn.Module, training: TrainingImages) -> Measure:
        """A measurement a layer; see `Detector`."""
        if not 2 <= self.k <= self.minibatch:
            fault = f"{self.k} neighbours do not fit in a minibatch of {self.minibatch}"
            raise UserError(f"lid: {fault}: give a k from 2 to minibatch")
        if self.minibatch > len(training.images):
            raise UserError(f"lid: a minibatch of {self.minibatch} is more than {len(training.images)} training images")
        order = rng.uniform(rng.keys(training.seed, torch.arange(len(training.images)), "lid"), ()).argsort(stable=True)
        chosen = training.images[order[: self.minibatch]].to(training.device)
        with torch.no_grad():
            others, _ = layers(model, chosen)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            outputs, logits = layers(model, x)
            pairs = zip(outputs, others, strict=True)
            return torch.stack([local_dimension(points, among, self.k) for points, among in pairs], 1), logits

        return Measure(call, "range", {"layers": len(others)})
