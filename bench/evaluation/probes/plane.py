"""Features in a plane: as they are if there are two, otherwise their first two principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import HasFeatures, UserError
from bench.evaluation.probes.probe import ProbedRun


def in_plane(z: Tensor) -> Tensor:
    """Features (N, D) as (N, 2): unchanged for D = 2, else the projection of greatest variance; 0 where D = 1."""
    if z.shape[1] <= 2:
        return torch.nn.functional.pad(z, (0, 2 - z.shape[1]))
    centred = z.double() - z.double().mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    # The sign of an axis is arbitrary: its largest entry points up.
    largest = axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True))
    axes = axes[:2] * torch.where(largest < 0, -1.0, 1.0)
    return torch.nn.functional.pad(centred @ axes.T, (0, 2 - len(axes)))


@probes.register("plane")
@dataclass(frozen=True)
class Plane:
    """The embedding of the run's first `limit` clean images in two dimensions (ER-Classifier, figures 5 and 6).

    Unlike t-SNE (`embedding`), this keeps the plane's own distances: whether codes fill a prior or lie along rays can
    be seen. The paper does not say whether its embeddings have two features or are projected.
    """

    limit: int = bounded(2000, low=2)

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def __call__(self, model: HasFeatures, run: ProbedRun) -> pd.DataFrame:
        """Columns index, label, prediction, size (D), x, y; a row an image."""
        shown = run.clean.select(slice(0, self.limit))
        z, logits = run.features(model, shown)
        if len(z) < 2:
            raise UserError("plane needs at least 2 images: probe a larger run")
        places = in_plane(z)
        return pd.DataFrame(
            {
                "index": shown.indices.tolist(),
                "label": shown.y.tolist(),
                "prediction": logits.argmax(1).tolist(),
                "size": z.shape[1],
                "x": places[:, 0].double().tolist(),
                "y": places[:, 1].double().tolist(),
            }
        )
