"""Cosine similarity of features to the center of the class that is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from bench.core.registry import probes
from bench.core.types import HasCenters
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.ops import center_losses


@probes.register("cosine")
@dataclass(frozen=True)
class Cosine:
    """Cosine of each image's features to the center of its predicted class, clean and attacked (MAT, table 5)."""

    needs: ClassVar[tuple[str, ...]] = ("features", "classify", "class_centers")

    def __call__(self, model: HasCenters, run: ProbedRun) -> pd.DataFrame:
        """Columns attack, norm, eps, index, label, prediction, broken, cosine; a row an image."""
        return pd.concat([_rows(model, run, images) for images in run.all()], ignore_index=True)


def _rows(model: HasCenters, run: ProbedRun, images: Images) -> pd.DataFrame:
    z, logits = run.features(model, images)
    prediction = logits.argmax(1)
    return pd.DataFrame(
        images.about()
        | {
            "index": images.indices.tolist(),
            "label": images.y.tolist(),
            "prediction": prediction.tolist(),
            "broken": images.broken.tolist(),
            "cosine": center_losses.cosine(z, model.class_centers().cpu()[prediction]).double().tolist(),
        }
    )
