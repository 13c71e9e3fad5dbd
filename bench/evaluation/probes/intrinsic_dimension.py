"""Intrinsic dimension of a run's clean images, and of a model's features of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import Classifier, UserError
from bench.evaluation.probes.probe import ProbedRun, has_features
from bench.ops import rng

_SLICE = 256


def nearest_distances(points: Tensor, count: int) -> Tensor:
    """Euclidean distances (N, count) of points (N, P) to their nearest others, in rising order, in double precision."""
    points, parts = points.double(), []
    for at in range(0, len(points), _SLICE):
        apart = torch.cdist(points[at : at + _SLICE], points, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.arange(at, at + len(apart))
        apart[torch.arange(len(apart)), own] = torch.inf
        parts.append(apart.topk(count, dim=1, largest=False).values)
    return torch.cat(parts)


def inverse_dimensions(distances: Tensor, k: int) -> Tensor:
    """Levina and Bickel's (2004, eq. 9) 1 / m_k (N,) from sorted distances T_1 ... (N, >= k), with k - 2 below.

    1 / m_k = sum_{j<k} log(T_k / T_j) / (k - 2).
    """
    logs = distances[:, :k].log()
    return (logs[:, -1:] - logs[:, :-1]).sum(1) / (k - 2)


@probes.register("intrinsic_dimension")
@dataclass(frozen=True)
class IntrinsicDimension:
    """Levina and Bickel's maximum likelihood estimate on raw pixels, as in the ER-Classifier's table 2.

    For each k the inverses are averaged over the images (MacKay and Ghahramani 2005), then the estimates over k.
    `dimension` divides by k - 2, as the toolbox does that the paper names; averaged inverses are unbiased with k - 1,
    and that is `dimension_k1`. The same for the features of a model that has them, which are `points` "features".

    Args:
        samples: how many images, drawn by key; of equal ones all but the first are left out, for a distance of 0 has no
            logarithm.
        k1: the smallest k, at least 3.
        k2: the largest.
    """

    samples: int = bounded(1000, low=1)
    k1: int = bounded(6, low=3)
    k2: int = bounded(12, low=3)

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Classifier, run: ProbedRun) -> pd.DataFrame:
        """Columns points, size (P), n, k1, k2, dimension, dimension_k1, low, high; low and high over the k."""
        if not 3 <= self.k1 <= self.k2:
            raise UserError(f"intrinsic_dimension: k1 {self.k1} and k2 {self.k2} do not fit: give 3 <= k1 <= k2")
        draws = rng.uniform(rng.keys(run.record.seed, run.clean.indices, "intrinsic dimension"), ())
        shown = run.clean.select(draws.argsort(stable=True)[: self.samples].sort().values)
        clouds = {"pixels": shown.x.flatten(1)}
        if has_features(model):
            clouds["features"] = run.features(model, shown)[0]
        rows = [self._estimate(name, cloud) for name, cloud in clouds.items()]
        return pd.DataFrame([row for row in rows if row])

    def _estimate(self, name: str, cloud: Tensor) -> dict[str, Any] | None:
        """A row, or None for features that are too often equal: a collapsed model has no dimension to estimate."""
        cloud = torch.unique(cloud.double(), dim=0)
        if len(cloud) <= self.k2:
            if name == "features":
                return None
            wanted = f"more than {self.k2} different images, and there are {len(cloud)}"
            raise UserError(f"intrinsic_dimension needs {wanted}: probe a larger run or give a smaller k2")
        apart = nearest_distances(cloud, self.k2)
        counts = range(self.k1, self.k2 + 1)
        estimates = [float(1 / inverse_dimensions(apart, k).mean()) for k in counts]
        unbiased = [value * (k - 1) / (k - 2) for value, k in zip(estimates, counts, strict=True)]
        about = {"points": name, "size": cloud.shape[1], "n": len(cloud), "k1": self.k1, "k2": self.k2}
        means = {"dimension": sum(estimates) / len(estimates), "dimension_k1": sum(unbiased) / len(unbiased)}
        return about | means | {"low": min(estimates), "high": max(estimates)}
