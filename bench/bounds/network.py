"""A classifier as a chain of layers in float64, made of a model and held to what the model answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bench.bounds import pooling, tracing, translation
from bench.bounds.affine import Affine
from bench.bounds.layers import Layer, MaxPool, Rectifier
from bench.core.types import UserError
from bench.ops import passes

_AGREES = 1e-3
"""The share of the spread of logits by which float32 and float64 may differ."""
UNIT = 2.0**-53
"""The unit roundoff of float64."""


@dataclass(frozen=True)
class Network:
    """Affine maps and rectifiers in turn, from images (*inputs) to logits; max-pools as pairs.

    `pools` says, for the place of the last layer of a max-pool, the place of its first and the pool: their intervals
    are known better than those of the pairs.
    """

    layers: tuple[Affine | Rectifier, ...]
    pools: dict[int, tuple[int, MaxPool]]

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> Network:
        """The network of a chain of layers."""
        chain, pools = list[Affine | Rectifier](), dict[int, tuple[int, MaxPool]]()
        for layer in layers:
            if isinstance(layer, MaxPool):
                first = len(chain)
                chain += list(pooling.in_pairs(layer))
                pools[len(chain) - 1] = (first, layer)
            else:
                chain.append(layer)
        return cls(tuple(chain), pools)

    @cached_property
    def rectifiers(self) -> dict[int, Rectifier]:
        """The rectifiers by their places."""
        return {place: layer for place, layer in enumerate(self.layers) if isinstance(layer, Rectifier)}

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.layers[-1].outputs[0]

    @cached_property
    def rounding(self) -> float:
        """The share of the sum of absolute products by which a result of the whole chain may be off.

        Twice gamma_n = n u / (1 - n u) (Higham 2002, lemma 3.1), n being more than the longest sum of any layer and the
        roundings between layers together: once for the sums, once for the sums of absolute values that are multiplied.
        """
        most = max((layer.terms for layer in self.layers if not isinstance(layer, Rectifier)), default=1)
        widest = max(max(_size(layer.inputs), _size(layer.outputs)) for layer in self.layers)
        n = (most + widest + 64 + 16 * len(self.layers)) * UNIT
        return 2 * n / (1 - n)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W), in float64."""
        z = x.double()
        for layer in self.layers:
            z = layer.apply(z)
        return z


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def network(model: nn.Module, images: Tensor) -> Network:
    """The chain of layers that a prepared model is, tried on a few images (N, C, H, W).

    Raises:
        UserError: the model is no such chain, a layer is not supported, or the chain answers otherwise than the model.
    """
    made = Network.of(translation.layers(tracing.chain(model, images)))
    if not made.layers or len(made.layers[-1].outputs) != 1:
        raise UserError(f"{type(model).__name__} does not end in logits (N, K): {tracing.REMEDY}")
    noise = torch.rand(images[:8].shape, generator=torch.Generator().manual_seed(0))
    tried = torch.cat([images[:8], noise, noise.round()])
    asked = passes.reference_outputs(model, tried).double()
    answer = made.logits(tried)
    finite = asked.isfinite().all(1) & answer.isfinite().all(1)
    spread = (asked[finite].amax() - asked[finite].amin()) if finite.any() else torch.zeros(())
    if not bool(((asked - answer).abs()[finite] <= _AGREES * spread + 1e-6).all()):
        raise UserError(
            f"{type(model).__name__} answers otherwise than the chain of layers that was traced: {tracing.REMEDY}"
        )
    return made
