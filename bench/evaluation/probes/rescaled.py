"""PGD on rescaled logits: how much of a robust accuracy is saturation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import Classifier, UserError
from bench.evaluation.judge import judge, predictions
from bench.evaluation.probes.probe import Images, ProbedRun, has_features
from bench.evaluation.probes.run_pgd import RunPGD
from bench.ops import ascent, losses, passes

_FEATURES = "feature norm"


def tempered_ce(model: Classifier, x: Tensor, y: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits over a temperature (N,), and the model's own logits (N, K).

    Dividing a row of logits changes no prediction; what changes is how far its softmax saturates.
    """
    logits = model(x)
    return losses.cross_entropy(logits / temperature[:, None], y), logits


@probes.register("rescaled")
@dataclass(frozen=True)
class Rescaled:
    """Robust accuracy under PGD on cross-entropy of logits over each of some temperatures.

    The run's eps, its PGD's steps and its noise, so that temperature 1 repeats the run. "feature norm" divides an
    image's logits by the norm of its clean features, which undoes what MAT's SO term gains from longer features.

    Args:
        temperatures: what logits are divided by.
        limit: how many of the run's first images.
    """

    temperatures: tuple[float, ...] = bounded((1.0, 10.0, 100.0), above=0)
    limit: int = bounded(1000, low=1)

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Classifier, run: ProbedRun) -> pd.DataFrame:
        """Columns temperature, norm, eps, steps, n, right, robust, robust_accuracy."""
        record, shown = run.record, run.first(self.limit)
        if record.eps is None:
            raise UserError("rescaled needs the eps of a run, and this one has none or several: probe another run")
        pgd = RunPGD.of(record, record.eps)
        counts: dict[str, list[int]] = {}
        for part in shown.batches(shown.clean):
            clean_pred = predictions(passes.reference_outputs(model, part.x))
            right = part.select(clean_pred == part.y)
            for name, temperature in self._settings(model, right):
                count = counts.setdefault(name, [0, 0])
                count[0] += len(right)
                count[1] += _robust(model, pgd, right, temperature)
        n = len(shown.clean)
        about = {"norm": pgd.norm, "eps": pgd.eps, "steps": pgd.steps, "n": n}
        return pd.DataFrame(
            {"temperature": name, **about, "right": right, "robust": robust, "robust_accuracy": robust / n}
            for name, (right, robust) in counts.items()
        )

    def _settings(self, model: Classifier, images: Images) -> Iterator[tuple[str, Tensor]]:
        for temperature in self.temperatures:
            yield f"{temperature:g}", torch.full((len(images),), temperature, device=images.x.device)
        if has_features(model):
            yield _FEATURES, passes.reference_outputs(model.features, images.x).norm(dim=1).clamp_min(1e-12)


def _robust(model: Classifier, pgd: RunPGD, images: Images, temperature: Tensor) -> int:
    """How many images, all right when clean, PGD on logits over a temperature (N,) does not break."""
    x, y, budget = images.x, images.y, pgd.budget(images)
    attempt = ascent.Attempt(tempered_ce, (temperature,), pgd.random_start)
    x_adv = ascent.first_success(model, x, y, budget, pgd.keys(images), pgd.schedule(budget), [attempt])
    judged = judge(model, x, x_adv, y, pgd.norm, budget.eps)
    return int((~verdicts.broken(y, y, judged.adv_pred, judged.lawful)).sum())
