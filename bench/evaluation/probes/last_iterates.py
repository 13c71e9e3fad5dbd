"""Where PGD ends, fooled or not: a stored run keeps the clean image in place of an attack that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.core.types import Budget, UserError
from bench.evaluation.probes.probe import Exhibit, Images
from bench.ops import ascent, losses, norms, passes, rng
from bench.store.record import Record


def last_iterates(model: Any, exhibit: Exhibit) -> Iterator[Images]:
    """The last iterates of the run's first untargeted PGD, all its steps taken; the default one if it had none.

    Of the clean images that are right, a batch at a time; `broken` says which are misclassified.
    """
    norm, eps = exhibit.record.norm, exhibit.record.eps
    if eps is None:
        raise UserError("the last iterates of PGD need the eps of a run, and this one has none or several")
    for clean in exhibit.batches(exhibit.clean):
        right = clean.select(passes.reference_outputs(model, clean.x).argmax(1) == clean.y)
        bound = torch.full((len(right),), eps, dtype=torch.float64, device=right.x.device)
        x = _climbed(model, right, exhibit.record, Budget(norm, bound))
        fooled = passes.reference_outputs(model, x).argmax(1) != right.y
        yield Images("pgd", norm, eps, x, right.y, right.indices, fooled)


def _climbed(model: Any, images: Images, record: Record, budget: Budget) -> Tensor:
    entries = [attack.fields for attack in record.attacks if attack.name == "pgd"]
    fields: Mapping[str, Any] = next((one for one in entries if not one.get("targeted")), {})
    schedule = ascent.Schedule.standard(budget, fields.get("steps", 40), fields.get("step_size"))
    ball = norms.Ball.around(images.x, budget)
    keys = rng.fold(rng.keys(record.seed, images.indices, "pgd"), 0)
    start = ball.sample(keys) if fields.get("random_start", True) else images.x
    return ascent.ascend(model, losses.ce, ball, images.y, start, replace(schedule, stop=False)).x_adv
