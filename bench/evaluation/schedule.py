"""The schedule: which images meet which attack in which batch. Yields chunks of verdicts; writes nothing.

A chunk is a fixed range of images under one attack at every eps of the run. Chunks share nothing, so they may be made
in any order, by any process, or made again after an interruption.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.files import one_line
from bench.core.types import Attack, Budget, Classifier, ImageSet, ThreatModel, UserError, Verdict
from bench.evaluation import batching, eps_order
from bench.evaluation.confirming import surer
from bench.evaluation.judge import Repeated, judge, settled
from bench.evaluation.ledger import JudgedTrials, Ledger, joined, settle
from bench.evaluation.plan import Planned
from bench.ops import draws, passes, rng
from bench.ops.counting.direct_calls import refused
from bench.ops.counting.limit import PassLimit


@dataclass(frozen=True)
class Job:
    """Everything the chunks of a run have in common.

    `clean_pred` (N,) are the model's predictions on `data`, in its order; `threats` share a norm and hold one eps each,
    ascending, which are met in `order` (see `bench.evaluation.eps_order`). `keep` says that adversarial examples are
    wanted. `search`, if given, is a cheaper form of the model for attacks to search on (see
    `bench.models.search_copy`), `attacked` the form that they meet where that one is not right: the model itself, or
    its draws' mean with another gradient (see `bench.models.search_form`). More than one of `draws` settle a
    prediction of a random model. An image takes at most `max_passes` for an attack at an eps, if that is given.
    """

    model: Classifier
    data: ImageSet
    clean_pred: Tensor
    threats: Sequence[ThreatModel]
    seed: int
    batch_size: int
    device: str = "cpu"
    order: eps_order.Order = "exact"
    keep: bool = False
    search: Classifier | None = None
    attacked: Classifier | None = None
    draws: int = 1
    max_passes: int | None = None

    def repeated(self, part: ImageSet) -> Repeated | None:
        """How predictions on images of the run are settled, if the model is random."""
        return Repeated(self.draws, self.seed, part.labels, part.indices) if self.draws > 1 else None


@dataclass(frozen=True)
class Chunk:
    """Work to do: one attack on the images at places `start` to `stop` of the run's data."""

    planned: Planned
    start: int
    stop: int


@dataclass(frozen=True)
class ChunkResult:
    """Work done: verdicts by attack, then image, then eps, and the seconds that each attack or stage took.

    `x` and `x_adv` (n, C, H, W) are the clean and the proposed images of the verdicts, if the job keeps them. `failed`
    says of attacks and stages that could not be made why: their rows are flagged.
    """

    chunk: Chunk
    verdicts: list[Verdict]
    seconds: dict[str, float]
    way: Tensor
    x: Tensor | None = None
    x_adv: Tensor | None = None
    failed: dict[str, str] = field(default_factory=dict)


def clean_predictions(
    model: Classifier, data: ImageSet, batch_size: int, device: str, repeated: Repeated | None = None
) -> Tensor:
    """Predicted classes (N,) of a prepared model on clean images, on the CPU."""
    parts = [slice(at, at + batch_size) for at in range(0, len(data), batch_size)]
    return torch.cat([settled(model, data.images[at].to(device), repeated and repeated.at(at)).cpu() for at in parts])


def epsilons(planned: Planned, threats: Sequence[ThreatModel]) -> list[float | None]:
    """The eps values of an attack's rows: those of the run, or a single None for a minimal attack."""
    return [None] if planned.attack.minimal else [threat.eps for threat in threats]


def chunks(job: Job, attacks: Sequence[Planned]) -> list[Chunk]:
    """Cut a run into chunks. The cut depends on the batch size, not on what is done already."""
    result = []
    for planned in attacks:
        # Independent eps are rows of one batch; otherwise an image meets one of them at a time.
        at_once = len(epsilons(planned, job.threats)) if job.order == "independent" else 1
        images = max(1, job.batch_size // at_once // getattr(planned.attack, "points", 1))
        result += [Chunk(planned, at, min(at + images, len(job.data))) for at in range(0, len(job.data), images)]
    return result


def perform(job: Job, chunk: Chunk) -> ChunkResult:
    """Attack and judge one chunk. Images that the model gets wrong are never attacked.

    An ensemble's stages attack what the ones before left, as judged here; a stage's row says what is left after it.
    """
    part, planned = job.data.select(slice(chunk.start, chunk.stop)).loaded(), chunk.planned
    clean_pred = job.clean_pred[chunk.start : chunk.stop]
    bounds = epsilons(planned, job.threats)
    ledgers = {label: Ledger(part, clean_pred, len(bounds), job.keep) for label in planned.labels}
    seconds, failed = dict.fromkeys(planned.labels, 0.0), dict[str, str]()
    total = ledgers[planned.label]
    unsettled = (clean_pred == part.labels).unsqueeze(1).repeat_interleave(len(bounds), 1)
    began = time.perf_counter()
    while bool(unsettled.any()):
        image, level = eps_order.upcoming(unsettled, job.order)
        for stage in planned.stages or [planned]:
            started = time.perf_counter()
            left = total.passes_left(job.max_passes)[image, level]
            standing = ~total.broken[image, level] & (left > 0)
            rows, at = image[standing], level[standing]
            asked = _Trials(rows, [bounds[place] for place in at.tolist()], left[standing])
            trials = _attacked(job, stage, part, clean_pred, asked, failed)
            total.write(rows, at, trials)
            if stage is not planned:
                ledgers[stage.label].take(image, level, total, level)
                ledgers[stage.label].count(rows, at, trials.tally)
                seconds[stage.label] += time.perf_counter() - started
        unsettled[image, level] = False
        settle(job.order, unsettled, list(ledgers.values()), total, image, level)
    seconds[planned.label] = time.perf_counter() - began
    return replace(_result(chunk, part, bounds, ledgers, seconds), failed=failed)


def _result(
    chunk: Chunk, part: ImageSet, bounds: list[float | None], ledgers: dict[str, Ledger], seconds: dict[str, float]
) -> ChunkResult:
    norm, every = chunk.planned.norm, list(ledgers.values())
    rows = [row for label, ledger in ledgers.items() for row in ledger.verdicts(part.indices, label, norm, bounds)]
    way = torch.cat([ledger.way.flatten(0, 1) for ledger in every])
    if every[0].x_adv is None:
        return ChunkResult(chunk, rows, seconds, way)
    x_adv = torch.cat([ledger.x_adv.flatten(0, 1) for ledger in every if ledger.x_adv is not None])
    x = part.images[:].repeat_interleave(len(bounds), 0).repeat(len(every), 1, 1, 1)
    return ChunkResult(chunk, rows, seconds, way, x, x_adv)


@dataclass(frozen=True)
class _Trials:
    """What an attack is to try: the images at `rows` (n,) of a part, one eps each, and the passes left to each."""

    rows: Tensor
    bounds: list[float | None]
    left: Tensor


def _attacked(
    job: Job, planned: Planned, part: ImageSet, clean_pred: Tensor, asked: _Trials, failed: dict[str, str]
) -> JudgedTrials:
    """Attack some images of a part and judge what comes back.

    In fewer images at once where memory runs out. Where a search on a cheaper form of the model proposed what the judge
    denies, or met NaN or infinity and broke nothing, the image is searched again on what that is a form of. What the
    judge denies of a random model's search stands denied: to ask until it agrees would count luck. Where the model has
    no gradient for the attack, `failed` says so and the images are flagged.
    """
    rows, bounds = asked.rows, asked.bounds
    eps = None if None in bounds else torch.tensor(bounds, dtype=torch.float64)
    attacked = job.model if job.attacked is None else job.attacked

    def attempt(places: Tensor, model: Classifier, left: Tensor) -> JudgedTrials:
        some, bound = rows[places], None if eps is None else eps[places].to(job.device)
        x, y = part.images[some].to(job.device), part.labels[some].to(job.device)
        # Keyed by the attack's name, not its fields or eps: more steps or another eps start from the same noise.
        keys = rng.keys(job.seed, part.indices[some].to(job.device), planned.name)
        draws.begin(model, job.seed, planned.name)

        limit = None if job.max_passes is None else PassLimit(model, x, planned.norm, bound, left)

        def searched(at: Tensor) -> Tensor:
            budget = Budget(planned.norm, None if bound is None else bound[at])
            with refused(model, planned.label) if limit else nullcontext():
                return passes.within_limit(lambda: _proposed(planned, model, x[at], y[at], budget, keys[at]), x[at])

        def again(at: Tensor) -> Tensor:
            with passes.among(at):
                return searched(at)

        with passes.counted(len(some), job.device, y, limit) as tally:
            try:
                x_adv = searched(torch.arange(len(x), device=x.device))
                x_adv = surer(model, x, x_adv, y, again)
            except passes.NoGradientError as fault:
                failed[planned.label], x_adv = str(fault), x
                tally.not_finite[:] = True
        repeated = job.repeated(part.select(some))
        judged = judge(job.model, x, x_adv, clean_pred[some].to(job.device), planned.norm, bound, repeated)
        return JudgedTrials(x_adv, judged, tally)

    def search(places: Tensor) -> JudgedTrials:
        # Finds of a minimal attack lie at the boundary, which another form of the model has elsewhere.
        left = asked.left[places]
        if job.search is None or eps is None:
            return attempt(places, attacked, left)
        trials = attempt(places, job.search, left)
        judged, y = trials.judged, part.labels[rows[places]].to(job.device)
        # A proposal that holds NaN has the size NaN: not 0, which is that of an image left as it was.
        doubtful = (judged.size != 0) | trials.tally.not_finite
        left = left - (trials.tally.forwards + trials.tally.backwards).cpu()
        doubtful &= ~verdicts.broken(y, y, judged.adv_pred, judged.lawful) & (left > 0).to(job.device)
        again = doubtful.nonzero().squeeze(1)
        if not len(again):
            return trials
        return trials.replaced(again, attempt(places[again.cpu()], attacked, left[again.cpu()]))

    return batching.halving(search, torch.arange(len(rows)), joined)


def _place(attack: Attack, fault: Exception) -> str:
    """Where in the attack's own file it happened, as " (blur.py, line 31)"; empty where that cannot be told."""
    code = getattr(type(attack).__call__, "__code__", None)
    frames = [
        frame for frame in traceback.extract_tb(fault.__traceback__) if code and frame.filename == code.co_filename
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _proposed(planned: Planned, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
    try:
        x_adv = planned.attack(model, x, y, budget, keys)
    except Exception as fault:
        if isinstance(fault, UserError) or passes.out_of_memory(fault):
            raise
        what = f"{type(fault).__name__}: {one_line(fault)}{_place(planned.attack, fault)}"
        raise UserError(f"attack {planned.label!r} failed with {what}: correct the attack or its fields") from fault
    if not isinstance(x_adv, Tensor):
        raise UserError(f"attack {planned.label!r} returned {type(x_adv).__name__}, not images: correct the attack")
    if x_adv.shape != x.shape:
        shapes = f"shape {tuple(x_adv.shape)} for {tuple(x.shape)}"
        raise UserError(f"attack {planned.label!r} returned images of {shapes}: correct the attack")
    return x_adv.detach().to(x)
