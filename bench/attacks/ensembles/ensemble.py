"""Ensembles: attacks in turn, each on the images that those before it left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.core.types import Attack, Budget, Classifier, Norm
from bench.ops import passes, rng
from bench.ops.active_set import Proposals

Stages = Iterator[tuple[str, Attack]]


@dataclass(frozen=True)
class Ensemble:
    """Stages in turn; a subclass says which, in `stages(norm)`.

    A run judges the images between the stages, and gives each stage a row of its own: what is left after it.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        raise NotImplementedError

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        eps, proposals = budget.bound(type(self).__name__), Proposals(x)
        for turn, (_, stage) in enumerate(self.stages(budget.norm)):
            rows = proposals.missing
            if not len(rows):
                break
            with passes.among(rows):
                z = stage(model, x[rows], y[rows], Budget(budget.norm, eps[rows]), rng.fold(keys[rows], turn))
            proposals.record(rows, z, (z != x[rows]).flatten(1).any(1))
        return proposals.x_adv
