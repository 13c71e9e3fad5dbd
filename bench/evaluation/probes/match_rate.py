"""Match rate: do the clusters of clean features say what the model predicts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import HasFeatures, UserError
from bench.evaluation.probes.probe import ProbedRun


@dataclass(frozen=True)
class Clusters:
    """Groups of clean features: their centroids (J, D) and the class most often predicted in each (J,)."""

    centroids: Tensor
    dominant: Tensor

    def match(self, z: Tensor, predicted: Tensor) -> Tensor:
        """Whether the cluster nearest to features (N, D) predicts as the model does (N,)."""
        nearest = torch.cdist(z.double(), self.centroids).argmin(1)
        return self.dominant[nearest] == predicted


def clusters(tree: NDArray[np.float64], z: Tensor, predicted: Tensor, count: int) -> Clusters:
    """Cut a linkage tree of features z (N, D) into `count` clusters; ties in a vote go to the lower class."""
    member = torch.from_numpy(hierarchy.fcluster(tree, count, "maxclust").astype(np.int64))
    groups = [member == number for number in sorted(set(member.tolist()))]
    centroids = torch.stack([z[group].double().mean(0) for group in groups])
    return Clusters(centroids, torch.stack([predicted[group].bincount().argmax() for group in groups]))


@probes.register("match_rate")
@dataclass(frozen=True)
class MatchRate:
    """The share of images whose nearest cluster's dominant prediction is their own (MAT, section 3).

    Ward's clusters of clean penultimate features; an image belongs to the nearest centroid (Euclidean). Which points
    are clustered, how many clusters and which distance the paper does not print. `points` says whether an attack's row
    is over all its images, of which the failed ones are clean, or over those it broke.

    Args:
        limit: how many of the run's first images.
        clusters: how many clusters, each in turn, beside as many as there are classes.
    """

    limit: int = bounded(5000, low=2)
    clusters: tuple[int, ...] = bounded((10, 20, 50), low=1)

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def __call__(self, model: HasFeatures, run: ProbedRun) -> pd.DataFrame:
        """Columns attack, norm, eps, points, classes, clusters, n, matched, match_rate."""
        shown = run.first(self.limit)
        if len(shown.clean) < 2:
            raise UserError("match_rate clusters images and the run has fewer than 2: give a larger run")
        z, logits = shown.features(model, shown.clean)
        predicted = logits.argmax(1)
        tree = hierarchy.linkage(z.double().numpy(), "ward")
        counts = sorted({count for count in (logits.shape[1], *self.clusters) if count <= len(z)})
        cuts = {count: clusters(tree, z, predicted, count) for count in counts}
        rows = []
        for images in shown.all():
            theirs, answers = shown.features(model, images)
            for count, cut in cuts.items():
                match = cut.match(theirs, answers.argmax(1))
                everything = torch.ones(len(images), dtype=torch.bool)
                points = {"all": everything} | ({} if images is shown.clean else {"broken": images.broken})
                for name, which in points.items():
                    about = images.about() | {"points": name, "classes": logits.shape[1], "clusters": count}
                    rows.append(about | _share(match[which]))
        return pd.DataFrame(rows)


def _share(match: Tensor) -> dict[str, Any]:
    n, matched = len(match), int(match.sum())
    return {"n": n, "matched": matched, "match_rate": matched / n if n else float("nan")}
