"""One run from request to stored verdicts: what `bench run`, `bench sweep-eps`, `bench check` and the Python API share."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import capacity, checkpoints, checks, store, trials
from bench.data import loading
from bench.plan import Planned, plan
from bench.provenance import provenance
from bench.types import Checkpoint, Classifier, ImageSet, ThreatModel, UserError
from bench.writing import Writer


@dataclass(frozen=True)
class Request:
    """What is asked of a run. None leaves the choice to the model's stanza; `eps` holds one entry, a sweep several."""

    model: str
    attacks: str
    data: str | None = None
    split: str = "test"
    n: int | None = None
    norm: str | None = None
    eps: Sequence[tuple[float, str]] | None = None
    seed: int = 0
    batch_size: int | None = None
    device: str = "auto"
    force: bool = False
    save_adversarial: bool = False
    data_dir: str | None = None
    command: str = ""


@dataclass(frozen=True)
class Subject:
    """A model and the images it is to be tested on."""

    model: Any
    checkpoint: Checkpoint
    sha256: str
    data: ImageSet
    exemplars: Callable[[int], tuple[Tensor, Tensor]]


Progress = Callable[[trials.Outcome], None]


def device_named(name: str) -> str:
    """Resolve "auto" and refuse a device that is not there.

    Raises:
        UserError: torch does not know it, or it is absent.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError):
        raise UserError(f"device {name!r} is not available here: use cpu or auto") from None
    return chosen


def first_of_each_class(data: ImageSet, per_class: int) -> tuple[Tensor, Tensor]:
    """The first images of each class, in official order."""
    places = [(data.labels == label).nonzero().squeeze(1)[:per_class] for label in data.labels.unique()]
    chosen = torch.cat(places).sort().values
    return data.images[chosen], data.labels[chosen]


def subject(request: Request) -> Subject:
    """Load the model and the data that a request names.

    Raises:
        UserError: one of them cannot be had.
    """
    loaded = checkpoints.load(request.model)
    name = request.data or loaded.checkpoint.data
    if not name:
        raise UserError(f"model {request.model!r} names no data set: give --data (bench list data)")
    data = loading.load(name, request.split, request.data_dir)
    if request.n is not None:
        if not 0 < request.n <= len(data):
            raise UserError(f"-n {request.n} is not possible: {name} {request.split} has 1 to {len(data)} images")
        data = data.select(slice(0, request.n))

    def exemplars(per_class: int) -> tuple[Tensor, Tensor]:
        return first_of_each_class(loading.load(name, "train", request.data_dir), per_class)

    return Subject(loaded.model, loaded.checkpoint, loaded.sha256, data, exemplars)


def threats(request: Request, checkpoint: Checkpoint) -> list[ThreatModel]:
    """The threat models of a request, one an eps; the stanza's `trained_for` fills what is left open.

    Raises:
        UserError: an unknown norm.
    """
    known = checkpoint.trained_for
    norm = request.norm or (known.norm if known else "linf")
    if norm not in ("linf", "l2", "l1"):
        raise UserError(f"unknown norm {norm!r}: use linf, l2 or l1")
    if request.eps:
        return [ThreatModel(norm, eps, written) for eps, written in request.eps]
    if known and known.norm == norm:
        return [known]
    return [ThreatModel(norm, None)]


@dataclass(frozen=True)
class _Scene:
    """What attacks may ask for before a run."""

    subject: Subject
    device: str

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        images, labels = self.subject.exemplars(per_class)
        return images.to(self.device), labels.to(self.device)

    def surrogate(self, name: str) -> Classifier:
        model: Classifier = checkpoints.load(name).model.to(self.device).requires_grad_(False)
        return model


def _bound(planned: Planned, scene: _Scene) -> Planned:
    bind = getattr(planned.attack, "bind", None)
    return replace(planned, attack=bind(scene)) if bind else planned


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to go: its job, its attacks and the record that will be stored."""

    job: trials.Job
    attacks: list[Planned]
    record: dict[str, Any]


@contextmanager
def prepare(request: Request, tested: Subject) -> Iterator[Prepared]:
    """Check the model, settle the attacks and describe the run; the model gets its own state back on leaving.

    Raises:
        UserError: the images are out of range, the model fails a check (unless forced), or an attack does not fit.
    """
    device = device_named(request.device)
    model = tested.model.to(device) if hasattr(tested.model, "to") else tested.model
    checks.check_images(tested.data.images, tested.data.name)
    with checks.prepared(model):
        failures = checks.model_failures(model, tested.data.images[:32].to(device))
        if failures and not request.force:
            raise UserError("; ".join(f"check {failure.name!r} failed: {failure.text}" for failure in failures) + " (--force overrides)")
        asked = threats(request, tested.checkpoint)
        attacks = plan(request.attacks, model, asked[0], tested.checkpoint.trained_with)
        size = request.batch_size or capacity.batch_size(model, tested.data.images[:1].to(device))
        scene = _Scene(tested, device)
        clean = trials.clean_predictions(model, tested.data, size, device)
        job = trials.Job(model, tested.data, clean, asked, request.seed, size, device)
        bound = [_bound(planned, scene) for planned in attacks]
        record = _record(request, tested, job, bound) | {"forced": [failure.name for failure in failures]}
        record["zero_gradients"] = _zero_gradients(job)
        yield Prepared(job, bound, record)


def _zero_gradients(job: trials.Job) -> float | None:
    part = job.data.select(slice(0, 256))
    try:
        return checks.zero_gradient_share(
            job.model, part.images.to(job.device), part.labels.to(job.device), job.batch_size
        )
    except RuntimeError:
        return None


def _record(request: Request, tested: Subject, job: trials.Job, attacks: list[Planned]) -> dict[str, Any]:
    written = [threat.written or str(threat.eps) for threat in job.threats if threat.eps is not None]
    values = [threat.eps for threat in job.threats if threat.eps is not None]
    sweep = len(values) > 1
    return {
        "model": tested.checkpoint.name,
        "arch": tested.checkpoint.arch,
        "defense": tested.checkpoint.defense,
        "trained_with": {name: dict(fields) for name, fields in tested.checkpoint.trained_with.items()},
        "weights_sha256": tested.sha256,
        "data": tested.data.name,
        "split": tested.data.split,
        "indices": tested.data.indices.tolist(),
        "data_sha256": tested.data.sha256,
        "attacks": [
            {
                "spec": planned.label,
                "name": planned.name,
                "norm": planned.norm,
                "minimal": planned.attack.minimal,
                "adaptive": planned.is_adaptive,
                "fields": planned.fields,
            }
            for planned in attacks
        ],
        "adaptive": [planned.label for planned in attacks if planned.is_adaptive],
        "norm": job.threats[0].norm,
        "eps": None if sweep or not values else values[0],
        "eps_written": None if sweep or not written else written[0],
        "eps_grid": [list(pair) for pair in zip(values, written, strict=True)] if sweep else None,
        "seed": request.seed,
        "batch_size": job.batch_size,
        "device": job.device,
        "dtype": "float32",
        "save_adversarial": request.save_adversarial,
        **provenance(),
        "command": request.command,
        "start": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _trials(job: trials.Job, chunk: trials.Chunk) -> set[store.Trial]:
    planned, indices = chunk.planned, job.data.indices[chunk.start : chunk.stop].tolist()
    return {
        store.trial(planned.label, planned.norm, eps, index)
        for index in indices
        for eps in trials.epsilons(planned, job.threats)
    }


def execute(prepared: Prepared, directory: Path, resume: bool, progress: Progress | None = None) -> store.Run:
    """Make every verdict that the folder does not hold yet, and store it as it is made.

    A chunk that was cut short is made again whole, so that its images meet the same batch; only the missing rows are
    added.

    Raises:
        UserError: the folder holds another run, or cannot be written.
    """
    job, save = prepared.job, prepared.record["save_adversarial"]
    start = Writer.resume if resume else Writer.create
    with start(directory, prepared.record) as writer:
        done = writer.done()
        todo = [chunk for chunk in trials.chunks(job, prepared.attacks) if not _trials(job, chunk) <= done]
        for outcome in map(partial(trials.perform, job), todo):
            fresh = [
                place
                for place, row in enumerate(outcome.verdicts)
                if store.trial(row.attack, row.norm, row.eps, row.index) not in done
            ]
            images = outcome.x_adv[fresh].numpy() if save else None
            rows = [outcome.verdicts[place] for place in fresh]
            writer.append(rows, {outcome.chunk.planned.label: outcome.seconds}, images)
            if progress:
                progress(outcome)
        return writer.finish()


def in_memory(prepared: Prepared, progress: Progress | None = None) -> store.Run:
    """The same verdicts without a file."""
    job, rows, seconds = prepared.job, [], dict[str, float]()
    for chunk in trials.chunks(job, prepared.attacks):
        outcome = trials.perform(job, chunk)
        rows += outcome.verdicts
        seconds[chunk.planned.label] = seconds.get(chunk.planned.label, 0.0) + outcome.seconds
        if progress:
            progress(outcome)
    cost = {"forwards": sum(row.forwards for row in rows), "backwards": sum(row.backwards for row in rows)}
    record = {"schema_version": store.SCHEMA_VERSION, **prepared.record, **cost}
    return store.Run(store.frame(rows), record | {"attack_seconds": seconds, "seconds": sum(seconds.values())})
