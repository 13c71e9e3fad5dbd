"""PGD on rescaled logits: how much of a robust accuracy is saturation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from bench.core.registry import probes
from bench.core.types import Budget, Norm, UserError
from bench.evaluation.judge import judge, predictions
from bench.evaluation.probes.probe import Exhibit, Images
from bench.ops import ascent, losses, passes, rng
from bench.store.record import Record

_FEATURES = "feature norm"


def tempered_ce(model: Any, x: Tensor, y: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
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
    image's logits by the norm of its clean features, which undoes what MAT's SO term gains from longer features. On the
    first `limit` images.
    """

    temperatures: tuple[float, ...] = (1.0, 10.0, 100.0)
    limit: int = 1000

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Any, exhibit: Exhibit) -> pd.DataFrame:
        """Columns temperature, norm, eps, steps, n, right, robust, robust_accuracy."""
        record, shown = exhibit.record, exhibit.first(self.limit)
        if record.eps is None:
            raise UserError("rescaled needs the eps of a run, and this one has none or several: probe another run")
        plan = _Plan.of(record, record.eps)
        counts: dict[str, list[int]] = {}
        for part in shown.batches(shown.clean):
            clean_pred = predictions(passes.reference_outputs(model, part.x))
            right = part.select(clean_pred == part.y)
            for name, temperature in self._settings(model, right):
                found = counts.setdefault(name, [0, 0])
                found[0] += len(right)
                found[1] += plan.robust(model, right, temperature)
        n = len(shown.clean)
        about = {"norm": plan.norm, "eps": plan.eps, "steps": plan.steps, "n": n}
        return pd.DataFrame(
            {"temperature": name, **about, "right": right, "robust": robust, "robust_accuracy": robust / n}
            for name, (right, robust) in counts.items()
        )

    def _settings(self, model: Any, images: Images) -> Iterator[tuple[str, Tensor]]:
        for temperature in self.temperatures:
            yield f"{temperature:g}", torch.full((len(images),), temperature, device=images.x.device)
        if callable(getattr(model, "features", None)):
            yield _FEATURES, passes.reference_outputs(model.features, images.x).norm(dim=1).clamp_min(1e-12)


@dataclass(frozen=True)
class _Plan:
    """The PGD of a run: what it was asked, its first untargeted PGD's steps, and its seed."""

    norm: Norm
    eps: float
    steps: int
    step_size: float | None
    random_start: bool
    seed: int

    @classmethod
    def of(cls, record: Record, eps: float) -> _Plan:
        entries = [attack.fields for attack in record.attacks if attack.name == "pgd"]
        fields: Mapping[str, Any] = next((one for one in entries if not one.get("targeted")), {})
        steps, size, start = fields.get("steps", 40), fields.get("step_size"), fields.get("random_start", True)
        return cls(record.norm, eps, steps, size, start, record.seed)

    def robust(self, model: Any, images: Images, temperature: Tensor) -> int:
        """How many images, all right when clean, PGD on logits over a temperature (N,) does not break."""
        x, y = images.x, images.y
        budget = Budget(self.norm, torch.full((len(x),), self.eps, dtype=torch.float64, device=x.device))
        schedule = ascent.Schedule.standard(budget, self.steps, self.step_size)
        attempt = ascent.Attempt(tempered_ce, (temperature,), self.random_start)
        keys = rng.keys(self.seed, images.indices, "pgd")
        x_adv = ascent.first_success(model, x, y, budget, keys, schedule, [attempt])
        judged = judge(model, x, x_adv, y, self.norm, budget.eps)
        return int((~judged.lawful | (judged.adv_pred == y)).sum())
