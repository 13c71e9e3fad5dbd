"""The cross-entropy gradient that plain attacks climb: whether there is one at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from bench.core.registry import probes
from bench.core.types import Classifier
from bench.evaluation.probes.probe import Images, ProbedRun, has_features
from bench.ops import losses, norms, passes


@probes.register("gradients")
@dataclass(frozen=True)
class Gradients:
    """The input gradient of cross-entropy at each clean image: exactly zero or not, its sizes, and what saturates it.

    Zero gradients that are not small ones but exact zeros are a sign of masking (Carlini et al. 2019): softmax
    underflows where logits are far apart, and they grow with the norm of the features.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Classifier, run: ProbedRun) -> pd.DataFrame:
        """Columns index, label, prediction, zero, l1, l2, linf, feature_norm (NaN without features), logit_range."""
        return pd.concat([_rows(model, part) for part in run.batches(run.clean)], ignore_index=True)


def _rows(model: Classifier, images: Images) -> pd.DataFrame:
    _, logits, gradient = passes.input_gradient(losses.ce, model, images.x, images.y)
    features = passes.reference_outputs(model.features, images.x) if has_features(model) else None
    return pd.DataFrame(
        {
            "index": images.indices.tolist(),
            "label": images.y.tolist(),
            "prediction": logits.argmax(1).tolist(),
            "zero": (gradient == 0).flatten(1).all(1).tolist(),
            **{norm: norms.size(gradient.double(), norm).tolist() for norm in ("l1", "l2", "linf")},
            "feature_norm": float("nan") if features is None else features.double().norm(dim=1).tolist(),
            "logit_range": (logits.amax(1) - logits.amin(1)).double().tolist(),
        }
    )
