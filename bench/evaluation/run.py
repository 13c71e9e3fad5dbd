"""One run from request to stored verdicts: what the commands and the Python API share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from bench.core.from_specs import check_trained_with
from bench.core.types import Classifier, ImageSet, Note, ThreatModel, UserError, Verdict
from bench.evaluation import batching, checks, forms, identity, indicators, schedule
from bench.evaluation.description import described
from bench.evaluation.judge import Repeated
from bench.evaluation.notes import model_notes
from bench.evaluation.plan import Planned, adaptive_missing
from bench.evaluation.request import Request, Subject
from bench.evaluation.resolve import Scene, attacks_of, bound, threats
from bench.models import memory_format, precision, search_copy
from bench.models.adapted import adapted
from bench.ops import passes
from bench.ops.devices import device_named
from bench.ops.frozen import frozen
from bench.ops.global_random import seeded
from bench.store import runs
from bench.store.continuation import Clean
from bench.store.record import Gradients, Record
from bench.store.ways import frame
from bench.store.writer import Writer

Progress = Callable[[schedule.ChunkResult], None]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to go: its job, its attacks and the record that will be stored."""

    job: schedule.Job
    attacks: list[Planned]
    record: Record
    notes: tuple[Note, ...] = ()


@contextmanager
def prepare(request: Request, tested: Subject) -> Iterator[Prepared]:
    """Check the model, settle the attacks and describe the run; the model gets its own state back on leaving.

    Raises:
        UserError: the images are out of range, the model fails a check (unless forced), or an attack does not fit.
    """
    device = device_named(request.device)
    model = tested.model.to(device) if hasattr(tested.model, "to") else tested.model
    known = tested.data.select(slice(0, 32)) if tested.data.is_read_later else tested.data
    checks.check_images(known.images[:], tested.data.name)
    few = tested.data.images[:16].to(device)
    with seeded(model, request.seed, "run"), precision.precision(tf32=False):
        model = adapted(model, few)
    with (
        seeded(model, request.seed, "run"),
        frozen(model),
        precision.precision(tf32=False),
        memory_format.suited(model, few),
    ):
        failures = checks.model_failures(model, tested.data.images[:32].to(device))
        checks.admitted([failure for failure in failures if failure.name in checks.FATAL], (), request.force)
        draws, form = forms.asked(request, failures, device)
        failures = [failure for failure in failures if failure.name not in forms.answered(request)]
        classes = passes.classes(model, few[:1])
        checks.check_labels(tested.data.labels, classes, tested.data.name)
        check_trained_with(tested.checkpoint.trained_with, tested.checkpoint.defense)
        asked = threats(request, tested.checkpoint)
        planned = attacks_of(request, model, asked, tested.checkpoint.trained_with)
        attacks = [bound(attack, Scene(tested, device, classes, model)) for attack in planned]
        forced = checks.admitted(failures, [attack.attack for attack in attacks], request.force)
        notes = (*tested.notes, *model_notes(model, tested.data, device))
        missing = adaptive_missing(request.attacks, model, asked[0], tested.checkpoint.trained_with)
        job = _job(request, tested.data, model, device, asked, draws)
        with search_copy.searching(model, request.search_dtype, few) as search:
            cheaper = None if search is model else form.of(search, few)
            job = replace(job, search=cheaper, attacked=form.of(model, few))
            record = identity.told(described(request, tested, job, attacks), tested, job, attacks, classes)
            record = replace(
                record,
                forced=forced,
                notes=tuple(note.name for note in notes),
                adaptive_missing=missing,
                zero_gradients=_zero_gradients(job),
                gradients=_gradients(job, request.eot),
                **forms.recorded(form),
            )
            yield Prepared(job, attacks, record, notes)


def _job(
    request: Request, data: ImageSet, model: Classifier, device: str, asked: list[ThreatModel], draws: int
) -> schedule.Job:
    """What the chunks of a run have in common: its batch size is settled and clean images are predicted here."""
    size = request.batch_size or batching.batch_size(model, data.images[:1].to(device))
    repeated = Repeated(draws, request.seed, data.labels, data.indices) if draws > 1 else None
    return schedule.Job(
        model,
        data,
        schedule.clean_predictions(model, data, size, device, repeated),
        asked,
        request.seed,
        size,
        device,
        order=request.order,
        keep=request.save_adversarial,
        draws=draws,
        max_passes=request.max_passes,
    )


def _zero_gradients(job: schedule.Job) -> float | None:
    part = job.data.select(slice(0, 256))
    try:
        return checks.zero_gradient_share(
            job.model if job.attacked is None else job.attacked,
            part.images[:].to(job.device),
            part.labels.to(job.device),
            job.batch_size,
        )
    except RuntimeError:
        return None


def _gradients(job: schedule.Job, eot: int) -> Gradients:
    """Where the gradients that attacks follow fail."""
    return indicators.gradient_signs(
        job.model,
        job.search or job.attacked or job.model,
        job.data,
        job.clean_pred,
        job.threats[-1],
        job.batch_size,
        job.device,
        eot if job.draws > 1 else None,
    )


def _trials(job: schedule.Job, chunk: schedule.Chunk) -> set[runs.Trial]:
    planned, indices = chunk.planned, job.data.indices[chunk.start : chunk.stop].tolist()
    return {
        runs.trial(label, planned.norm, eps, index)
        for label in planned.labels
        for index in indices
        for eps in schedule.epsilons(planned, job.threats)
    }


def opened(prepared: Prepared, directory: Path, resume: bool, extend: bool = False) -> Writer:
    """A folder that takes the rows of a prepared run, and holds some of them, or others, where it is gone on with.

    Raises:
        UserError: the folder holds another run or that of another model, or cannot be written.
    """
    if not resume and not extend:
        return Writer.create(directory, prepared.record)
    data = prepared.job.data
    pairs = zip(data.labels.tolist(), prepared.job.clean_pred.tolist(), strict=True)
    start = Writer.extend if extend else Writer.resume
    return start(directory, prepared.record, dict(zip(data.indices.tolist(), pairs, strict=True)))


def execute(prepared: Prepared, directory: Path, resume: bool, progress: Progress | None = None) -> runs.Run:
    """Make every verdict that the folder does not hold yet, and store it as it is made.

    Raises:
        UserError: the folder holds another run, or cannot be written.
    """
    with opened(prepared, directory, resume) as writer:
        return fill(prepared, writer, progress)


def fill(prepared: Prepared, writer: Writer, progress: Progress | None = None) -> runs.Run:
    """Make every verdict that a folder does not hold yet, store it as it is made, and finish the run.

    A chunk that was cut short is made again whole, so that its images meet the same batch; only the missing rows are
    added.

    Raises:
        UserError: the folder cannot be written.
    """
    job = _as_predicted_before(prepared.job, writer.clean)
    done = writer.done()
    todo = [chunk for chunk in schedule.chunks(job, prepared.attacks) if not _trials(job, chunk) <= done]
    for outcome in map(partial(schedule.perform, job), todo):
        fresh = [
            place
            for place, row in enumerate(outcome.verdicts)
            if runs.trial(row.attack, row.norm, row.eps, row.index) not in done
        ]
        kept = None if outcome.x_adv is None or outcome.x is None else (outcome.x_adv, outcome.x)
        images = kept and (kept[0][fresh].numpy(), kept[1][fresh].numpy())
        writer.fail(outcome.failed)
        ways = outcome.way[fresh].tolist()
        writer.append([outcome.verdicts[place] for place in fresh], outcome.seconds, images, ways)
        if progress:
            progress(outcome)
    return writer.finish()


def _as_predicted_before(job: schedule.Job, clean: Clean) -> schedule.Job:
    """The job with the clean predictions that stored rows have: a random model makes others each time."""
    known = [clean[index][1] if index in clean else -2 for index in job.data.indices.tolist()]
    before = torch.tensor(known, dtype=job.clean_pred.dtype)
    return replace(job, clean_pred=torch.where(before == -2, job.clean_pred, before))


def in_memory(prepared: Prepared, progress: Progress | None = None) -> runs.Run:
    """The same verdicts without a file.

    Raises:
        UserError: an attack fails; the error's `partial` is the run up to there, if it has rows.
    """
    job, rows, seconds, failed = prepared.job, list[Verdict](), dict[str, float](), dict[str, str]()
    ways = list[list[float]]()
    for chunk in schedule.chunks(job, prepared.attacks):
        try:
            outcome = schedule.perform(job, chunk)
        except UserError as fault:
            fault.partial = _in_memory(prepared, rows, seconds, failed, finished=False) if rows else None
            raise
        rows += outcome.verdicts
        ways += outcome.way.tolist()
        failed |= outcome.failed
        for label, spent in outcome.seconds.items():
            seconds[label] = seconds.get(label, 0.0) + spent
        if progress:
            progress(outcome)
    return replace(_in_memory(prepared, rows, seconds, failed, finished=True), searches=frame(rows, ways))


def _in_memory(
    prepared: Prepared, rows: list[Verdict], seconds: dict[str, float], failed: dict[str, str], finished: bool
) -> runs.Run:
    verdicts = runs.frame(rows)
    forwards, backwards = runs.costs(verdicts, prepared.record)
    spent = sum(seconds[planned.label] for planned in prepared.attacks if planned.label in seconds)
    record = replace(prepared.record, seconds=spent, attack_seconds=seconds, failed=failed, finished=finished)
    return runs.Run(verdicts, replace(record, forwards=forwards, backwards=backwards))
