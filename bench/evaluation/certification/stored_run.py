"""A stored run certified: lower bounds of the margins of its images at each eps, written beside it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.bounds import margins
from bench.bounds.network import Network, network
from bench.bounds.region import NORMS
from bench.core.types import Norm, UserError
from bench.evaluation import identity, trust
from bench.evaluation.certification.images import Image, certified
from bench.evaluation.judge import settled
from bench.evaluation.stored_data import clean_images
from bench.models import checkpoints
from bench.models.adapted import adapted
from bench.ops.frozen import frozen
from bench.ops.global_random import seeded
from bench.store import certificates, runs
from bench.store.certificates import CertificateRecord, Certificates, Row
from bench.store.lock import FolderLock
from bench.store.provenance import provenance
from bench.store.record import Record

_SAVE_EVERY = 5.0
Told = Callable[[Row, int], None]
"""Called with each row that is made, and how many are to be made in all."""


@dataclass(frozen=True)
class Asked:
    """What is to be certified: a norm, its eps as numbers and as typed, and the methods to try in turn."""

    norm: Norm
    eps: tuple[tuple[float, str], ...]
    methods: tuple[str, ...]


def asked(
    record: Record, norm: Norm | None, eps: Sequence[tuple[float, str]] | None, method: str | None = None
) -> Asked:
    """What is to be certified of a run, by default at each of its eps by every method in turn.

    Raises:
        UserError: there are no bounds for the norm, or no eps is known in it.
    """
    chosen = norm or record.norm
    if chosen not in NORMS:
        raise UserError(f"there are no bounds for {chosen}: certify {' or '.join(NORMS)}, with --norm and --eps")
    own = record.eps_grid or (() if record.eps is None else ((record.eps, record.eps_written or repr(record.eps)),))
    if eps is None and (chosen != record.norm or not own):
        raise UserError(f"the run names no eps in {chosen}: give --eps, as in 8/255 or 0,2/255,4/255")
    grid = tuple(own) if eps is None else tuple(eps)
    return Asked(chosen, tuple(sorted(grid)), margins.METHODS if method is None else (method,))


def certify(
    directory: Path,
    norm: Norm | None = None,
    eps: Sequence[tuple[float, str]] | None = None,
    method: str | None = None,
    *,
    model: str | None = None,
    trusted: bool = False,
    data_dir: str | None = None,
    command: str = "",
    told: Told | None = None,
) -> tuple[runs.Run, Certificates]:
    """Certify the images of a stored run; the same again goes on where that was stopped.

    Rows that are there already are kept where they prove something, or where no tighter method is asked for now.

    Args:
        directory: the run.
        norm: in which norm, by default the run's.
        eps: at which eps, by default at each of the run's.
        method: one of `margins.METHODS`, or by default all in turn until one proves the image.
        model: another name of the run's model, whose weights must be the recorded ones.
        trusted: whether code that the record names may be run.
        data_dir: where to look for data first.
        command: what was typed.
        told: what is to be called after each row.

    Raises:
        UserError: the run, its model or its data cannot be had or are not the recorded ones; a layer is not supported;
            or another process writes to the folder.
    """
    made = runs.load(directory)
    wanted = asked(made.record, norm, eps, method)
    loaded, x, y = _subject(made, model, trusted, data_dir)
    subject: Any = adapted(loaded, x[:16])
    with frozen(subject):
        identity.refuse_another(subject, made, x, "cpu")
        _refuse_random(made)
        net = network(subject, x[:16])
        clean = _clean(subject, made, x)
    about = zip(x, y.tolist(), clean, made.record.indices, strict=True)
    with _locked(directory):
        return made, _filled(made, wanted, net, [Image(*one) for one in about], command, told)


def _subject(
    made: runs.Run, model: str | None, trusted: bool, data_dir: str | None
) -> tuple[nn.Module, Tensor, Tensor]:
    record, home = made.record, made.directory or Path()
    name = trust.model_named(record.model, model, trusted, str(home / "run.json"))
    with seeded(None, record.seed, "model"):
        loaded = checkpoints.load(name)
    if loaded.sha256 != record.weights_sha256:
        raise UserError(f"{name} has other weights than this run's: name the model that was attacked")
    return loaded.model, *clean_images(made, data_dir)


def _refuse_random(made: runs.Run) -> None:
    record = made.record
    if record.draws > 1 or record.eot > 1 or (record.behaviour and record.behaviour.random):
        raise UserError(f"{made.directory} is of a random model, which no bound holds for: certify one without draws")


def _clean(model: Any, made: runs.Run, x: Tensor) -> list[int]:
    """The predictions on the clean images: the run's, or where it has no row yet, the model's."""
    known = made.verdicts.drop_duplicates("index").set_index("index")["clean_pred"]
    lacking = [place for place, index in enumerate(made.record.indices) if index not in known.index]
    now = dict[int, int]()
    for some in torch.split(torch.tensor(lacking, dtype=torch.int64), made.record.batch_size):
        now |= zip(some.tolist(), settled(model, x[some]).tolist(), strict=True)
    return [now.get(place, int(known.get(index, 0))) for place, index in enumerate(made.record.indices)]


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = FolderLock.take(directory)
    try:
        yield
    finally:
        lock.release()


def _filled(
    made: runs.Run, wanted: Asked, net: Network, images: Sequence[Image], command: str, told: Told | None
) -> Certificates:
    """Make the rows that are missing, saving them now and then; all rows as they are stored in the end."""
    home = made.directory or Path()
    old = certificates.load(home, made.record)
    rows = {} if old is None else {(row.norm, row.eps, row.index): row for row in certificates.rows(old.table)}
    record = _record(made.record, wanted, old, command)
    todo = [
        (image, number)
        for image in images
        for number, (eps, _) in enumerate(wanted.eps)
        if not certificates.stands(rows.get((wanted.norm, eps, image.index)), wanted.methods)
    ]
    if old is not None and old.record.finished and not todo:
        return old
    began = saved = time.monotonic()
    finished = False
    try:
        for image, number in _largest_first(todo):
            eps, *larger = (eps for eps, _ in wanted.eps[number:])
            floor = rows[wanted.norm, larger[0], image.index] if larger else None
            row = rows[wanted.norm, eps, image.index] = certified(net, image, wanted.norm, eps, wanted.methods, floor)
            if told is not None:
                told(row, len(todo))
            if time.monotonic() - saved > _SAVE_EVERY:
                saved = time.monotonic()
                certificates.write(home, rows.values(), replace(record, seconds=record.seconds + saved - began))
        _raise(rows, wanted, images)
        finished = True
    finally:
        spent = record.seconds + time.monotonic() - began
        certificates.write(home, rows.values(), replace(record, seconds=spent, finished=finished))
    stored = certificates.load(home, made.record)
    if stored is None:
        raise UserError(f"{home / certificates.ROWS} was deleted while it was written: certify the run again")
    return stored


def _largest_first(todo: Sequence[tuple[Image, int]]) -> list[tuple[Image, int]]:
    """Images in order, each at its largest eps first: what holds within that holds within smaller ones."""
    places = {image.index: place for place, (image, _) in enumerate(todo)}
    return sorted(todo, key=lambda pair: (places[pair[0].index], -pair[1]))


def _raise(rows: dict[tuple[Norm, float, int], Row], wanted: Asked, images: Sequence[Image]) -> None:
    """Give rows that were kept the bounds of larger eps, where those were made by tighter methods."""
    for image in images:
        floor: Row | None = None
        for eps, _ in reversed(wanted.eps):
            key = (wanted.norm, eps, image.index)
            floor = rows[key] = certificates.at_least(rows[key], floor)


def _record(run: Record, wanted: Asked, old: Certificates | None, command: str) -> CertificateRecord:
    known = provenance()
    grid = dict(old.record.eps_written if old else ()) | dict(wanted.eps)
    return CertificateRecord(
        model=run.model,
        weights_sha256=run.weights_sha256,
        data=run.data,
        split=run.split,
        data_sha256=run.data_sha256,
        eps_written=tuple(sorted(grid.items())),
        command=command,
        start=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=old.record.seconds if old else 0.0,
        **known,
    )
