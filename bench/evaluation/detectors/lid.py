"""Local intrinsic dimensionality, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.core.registry import detectors
from bench.core.types import UserError
from bench.evaluation.detectors.detector import Known, Measure
from bench.evaluation.detectors.kernel_density import squared_distances
from bench.ops import rng

_LARGEST = 1e3
_TINY = 1e-24
_LAYERS = (nn.Conv2d, nn.Linear)


def layers(model: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The input, then the output of every convolution and linear layer in turn, flattened (N, P); and the logits."""
    found = [x.flatten(1)]

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output.flatten(1))

    hooks = [part.register_forward_hook(keep) for part in model.modules() if isinstance(part, _LAYERS)]
    try:
        logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found, logits


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

    The paper measures within the minibatch that an image came in. Here the minibatch is one and the same, drawn by key
    from the training images, so that an image's score depends on nothing but the image, and no neighbour is the image
    itself. The neighbours are chosen anew for every image; through their distances LID is differentiable.
    """

    k: int = 20
    minibatch: int = 100

    needs: ClassVar[tuple[str, ...]] = ("modules",)

    def measure(self, model: Any, known: Known) -> Measure:
        """A measurement a layer; see `Detector`."""
        if not 2 <= self.k <= self.minibatch:
            fault = f"{self.k} neighbours do not fit in a minibatch of {self.minibatch}"
            raise UserError(f"lid: {fault}: give a k from 2 to minibatch")
        if self.minibatch > len(known.images):
            raise UserError(f"lid: a minibatch of {self.minibatch} is more than {len(known.images)} training images")
        order = rng.uniform(rng.keys(known.seed, torch.arange(len(known.images)), "lid"), ()).argsort(stable=True)
        chosen = known.images[order[: self.minibatch]].to(known.device)
        with torch.no_grad():
            others, _ = layers(model, chosen)

        def call(x: Tensor) -> tuple[Tensor, Tensor]:
            found, logits = layers(model, x)
            pairs = zip(found, others, strict=True)
            return torch.stack([local_dimension(mine, theirs, self.k) for mine, theirs in pairs], 1), logits

        return Measure(call, "range", {"layers": len(others)})
