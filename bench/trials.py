"""The schedule: which images meet which attack in which batch. Yields chunks of verdicts; writes nothing.

A chunk is a fixed range of images under one attack at every eps of the run. Chunks share nothing, so they may be made
in any order, by any process, or made again after an interruption.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench import noise, passes
from bench.files import one_line
from bench.judge import Judgement, judge, predictions
from bench.plan import Planned
from bench.types import NOT_FINITE, Budget, ImageSet, ThreatModel, UserError, Verdict


@dataclass(frozen=True)
class Job:
    """Everything the chunks of a run have in common.

    `clean_pred` (N,) are the model's predictions on `data`, in its order; `threats` share a norm and hold one eps each.
    """

    model: Any
    data: ImageSet
    clean_pred: Tensor
    threats: Sequence[ThreatModel]
    seed: int
    batch_size: int
    device: str = "cpu"


@dataclass(frozen=True)
class Chunk:
    """Work to do: one attack on the images at places `start` to `stop` of the run's data."""

    planned: Planned
    start: int
    stop: int


@dataclass(frozen=True)
class Outcome:
    """Work done: verdicts in the order image, then eps; their clean and proposed images, each (n, C, H, W); seconds."""

    chunk: Chunk
    verdicts: list[Verdict]
    x: Tensor
    x_adv: Tensor
    seconds: float


def clean_predictions(model: Any, data: ImageSet, batch_size: int, device: str) -> Tensor:
    """Predicted classes (N,) of a prepared model on clean images, on the CPU."""
    batches = (data.images[at : at + batch_size] for at in range(0, len(data), batch_size))
    return torch.cat([predictions(passes.reference_outputs(model, x.to(device))).cpu() for x in batches])


def epsilons(planned: Planned, threats: Sequence[ThreatModel]) -> list[float | None]:
    """The eps values of an attack's rows: those of the run, or a single None for a minimal attack."""
    return [None] if planned.attack.minimal else [threat.eps for threat in threats]


def chunks(job: Job, attacks: Sequence[Planned]) -> list[Chunk]:
    """Cut a run into chunks. The cut depends on the batch size, not on what is done already."""
    result = []
    for planned in attacks:
        images = max(1, job.batch_size // len(epsilons(planned, job.threats)))
        result += [Chunk(planned, at, min(at + images, len(job.data))) for at in range(0, len(job.data), images)]
    return result


def perform(job: Job, chunk: Chunk) -> Outcome:
    """Attack and judge one chunk. Images that the model gets wrong are never attacked.

    Every (image, eps) pair is a row of one batch, so a sweep shares its passes.
    """
    began = time.perf_counter()
    part = job.data.select(slice(chunk.start, chunk.stop))
    clean_pred = job.clean_pred[chunk.start : chunk.stop]
    eps_values = epsilons(chunk.planned, job.threats)
    image = torch.arange(len(part)).repeat_interleave(len(eps_values))
    attacked = (clean_pred == part.labels)[image]
    rows = image[attacked]
    eps = None
    if not chunk.planned.attack.minimal:
        grid = torch.tensor([value for value in eps_values if value is not None], dtype=torch.float64)
        eps = grid.repeat(len(part))[attacked].to(job.device)
    judged, tally, proposed = _attacked(job, chunk.planned, part, clean_pred, rows, eps)
    x_adv = part.images[image]
    x_adv[attacked] = proposed.to(x_adv)
    found = iter(_rows(judged, tally))
    verdicts = []
    for place in range(len(part)):
        label, pred = int(part.labels[place]), int(clean_pred[place])
        for value in eps_values:
            head = (int(part.indices[place]), label, pred, chunk.planned.label, chunk.planned.norm, value)
            if pred != label:
                verdicts.append(Verdict(*head, pred, 0.0, True, False, 0, 0))
                continue
            adv_pred, size, lawful, forwards, backwards = next(found)
            broken = lawful and adv_pred not in (label, NOT_FINITE)
            verdicts.append(Verdict(*head, adv_pred, size, lawful, broken, forwards, backwards))
    return Outcome(chunk, verdicts, part.images[image], x_adv, time.perf_counter() - began)


def _attacked(
    job: Job, planned: Planned, part: ImageSet, clean_pred: Tensor, rows: Tensor, eps: Tensor | None
) -> tuple[Judgement, passes.Tally, Tensor]:
    """Attack the images at `rows` (n,) of a part, one eps each, and judge what comes back."""
    x, y = part.images[rows].to(job.device), part.labels[rows].to(job.device)
    # Keyed by the attack's name, not its fields or eps: more steps or another eps start from the same noise.
    keys = noise.keys(job.seed, part.indices[rows].to(job.device), planned.name)
    with passes.counted(len(rows), job.device) as tally:
        x_adv = _proposed(planned, job.model, x, y, Budget(planned.norm, eps), keys)
    if x_adv.shape != x.shape:
        shapes = f"shape {tuple(x_adv.shape)} for {tuple(x.shape)}"
        raise UserError(f"attack {planned.label!r} returned images of {shapes}: mend the attack")
    return judge(job.model, x, x_adv, clean_pred[rows].to(job.device), planned.norm, eps), tally, x_adv


def _proposed(planned: Planned, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
    try:
        x_adv = planned.attack(model, x, y, budget, keys)
    except UserError:
        raise
    except Exception as fault:
        what = f"{type(fault).__name__}: {one_line(fault)}"
        raise UserError(f"attack {planned.label!r} failed with {what}: mend the attack or its fields") from fault
    if not isinstance(x_adv, Tensor):
        raise UserError(f"attack {planned.label!r} returned {type(x_adv).__name__}, not images: mend the attack")
    return x_adv.detach().to(x)


def _rows(judged: Judgement, tally: passes.Tally) -> Iterable[tuple[int, float, bool, int, int]]:
    """Rows (adv_pred, size, lawful, forwards, backwards); a failed search that met NaN or infinity is flagged."""
    lost = tally.not_finite & (judged.size == 0)
    adv_pred = torch.where(lost, NOT_FINITE, judged.adv_pred)
    lawful = judged.lawful & (adv_pred != NOT_FINITE)
    columns = (adv_pred, judged.size, lawful, tally.forwards, tally.backwards)
    return zip(*(column.tolist() for column in columns), strict=True)
