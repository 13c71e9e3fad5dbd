"""Where PGD ends, fooled or not: a stored run keeps the clean image in place of an attack that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.types import Budget, Norm
from bench.evaluation.judge import predictions
from bench.evaluation.probes.probe import Exhibit, Images
from bench.ops import ascent, losses, norms, passes, rng


def last_iterates(model: Any, exhibit: Exhibit) -> Iterator[Images]:
    """The last iterates of the run's first untargeted PGD, all its steps taken; the default one if it had none.

    Of the clean images that are right, a batch at a time; `broken` says which are misclassified.
    """
    for clean in exhibit.batches(exhibit.clean):
        right = clean.select(predictions(passes.reference_outputs(model, clean.x)) == clean.y)
        x = _climbed(model, right, exhibit.record)
        fooled = verdicts.misclassified(right.y, predictions(passes.reference_outputs(model, x)))
        norm, eps = str(exhibit.record["norm"]), float(exhibit.record["eps"])
        yield Images("pgd", norm, eps, x, right.y, right.indices, fooled)


def _climbed(model: Any, images: Images, record: Mapping[str, Any]) -> Tensor:
    entries = [one["fields"] for one in record["attacks"] if one["name"] == "pgd"]
    fields: Mapping[str, Any] = next((one for one in entries if not one.get("targeted")), {})
    norm: Norm = record["norm"]
    eps = torch.full((len(images),), float(record["eps"]), dtype=torch.float64, device=images.x.device)
    budget = Budget(norm, eps)
    schedule = ascent.Schedule.standard(budget, fields.get("steps", 40), fields.get("step_size"))
    ball = norms.Ball.around(images.x, budget)
    keys = rng.fold(rng.keys(int(record["seed"]), images.indices, "pgd"), 0)
    start = ball.sample(keys) if fields.get("random_start", True) else images.x
    return ascent.ascend(model, losses.ce, ball, images.y, start, replace(schedule, stop=False)).x_adv
