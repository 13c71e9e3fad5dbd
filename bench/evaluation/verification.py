"""A stored run doubted: its images judged again, held to the data set, to its rows and to its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core import verdicts
from bench.core.files import one_line
from bench.core.types import NORMS, NOT_FINITE, Classifier, UserError
from bench.evaluation import identity, trust
from bench.evaluation.judge import Repeated, judge, settled
from bench.evaluation.stored_data import against_data
from bench.models import checkpoints, memory_format
from bench.models.adapted import adapted
from bench.ops import passes
from bench.ops.frozen import frozen
from bench.ops.global_random import seeded
from bench.store import behaviour, runs, signature
from bench.store import images as adversarial
from bench.store.consistency import record_faults, row_faults
from bench.store.images import Stored
from bench.store.record import Record

_NAMED = 3
"""How many rows a message names."""


@dataclass(frozen=True)
class Verification:
    """What became of a run that was doubted: what does not stand, and what was proven and what not, as texts."""

    run: runs.Run
    disagreeing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()

    @property
    def stands(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.disagreeing and not self.faults

    @property
    def text(self) -> str:
        """What does not stand, a line each, and one paragraph that says what was proven and what was not."""
        total, where = len(self.run.verdicts), self.run.directory
        lines = [] if not self.stands else [f"all {total} verdicts of {where} stand"]
        if self.disagreeing:
            named = ", ".join(self.disagreeing[:_NAMED]) + (", ..." if len(self.disagreeing) > _NAMED else "")
            lines.append(f"{len(self.disagreeing)} of {total} verdicts of {where} do not stand: {named}")
        sides = (("Proven", self.proven), ("Not proven", self.unproven))
        paragraph = " ".join(f"{side}: {'; '.join(texts) or 'nothing'}." for side, texts in sides)
        return "\n".join([*lines, *(f"does not stand: {fault}" for fault in self.faults), "", paragraph])

    def with_views(self, views: Sequence[str], faults: Iterable[str]) -> Verification:
        """The same with what became of the views (`views`, names of files) that were made again from the rows."""
        wrong = tuple(faults)
        if wrong or not views:
            return replace(self, faults=(*self.faults, *wrong))
        return replace(self, proven=(*self.proven, f"{', '.join(views)} are made of these rows"))


_NEVER = (
    "that these attacks were really run with these fields, and how much they cost: an image that nobody attacked looks "
    "like one that held",
    "who made the run: its signature is a hash without a secret",
)


def verify(
    directory: Path, model: str | None = None, trusted: bool = False, data_dir: str | None = None
) -> Verification:
    """Judge the stored adversarial examples of a run again, and hold its files to each other and to the data set.

    Args:
        directory: the run.
        model: what to judge with in place of the recorded model.
        trusted: whether code that the record names may be run.
        data_dir: where to look for data first.

    Raises:
        UserError: the run cannot be read, or the model cannot be had, does not fit, or is not the recorded one.
    """
    record = runs.read_record(directory, doubted=True)
    name = trust.model_named(record.model, model, trusted, str(directory / "run.json"))
    content = runs.whole_lines(runs.read_rows(directory, record))
    made = runs.Run(runs.table_of(content, runs.verdicts_path(directory)), record, directory)
    kept = adversarial.load(directory)
    with seeded(None, record.seed, "model"):
        loaded = checkpoints.load(name)
    if model is None:
        _refuse_another(directory, record, loaded)
    first = Verification(made, faults=tuple(_file_faults(made, kept, content)), unproven=_NEVER)
    if not record.verdicts_sha256:
        first = replace(first, unproven=(*first.unproven, "that no file was edited: the run is unsigned"))
    about = against_data(made, kept, data_dir)
    few = torch.tensor(kept.clean[:16])
    judged_by = adapted(loaded.model, few)
    with frozen(judged_by), memory_format.suited(judged_by, few):
        _refuse_misfit(judged_by, kept, record, name)
        unlike = _unlike(judged_by, kept, record)
        if unlike and model is None:
            raise UserError(f"{directory} was made with {unlike}: name a model with --model to judge by it anyway")
        disagreeing = tuple(_disagreeing(judged_by, made, kept))
    other = (f"{name} is not the model of this run, which was {unlike}",) if unlike else ()
    judged = f"predictions, sizes and lawfulness of every row, judged anew by {name} ({loaded.sha256[:12]})"
    return replace(
        first,
        disagreeing=disagreeing,
        faults=(*first.faults, *about.faults, *other),
        proven=(*([] if disagreeing or other else [judged]), *about.proven, *_agreeing(first)),
        unproven=(*about.unproven, *_weak(made, record), *first.unproven),
    )


def _agreeing(first: Verification) -> list[str]:
    if first.faults:
        return []
    return ["rows, images and run.json name the same images, attacks, norms and eps"]


def _refuse_another(directory: Path, record: Record, loaded: checkpoints.Loaded) -> None:
    remedy = "name a model with --model to judge by it anyway"
    if loaded.sha256 != record.weights_sha256:
        raise UserError(f"{record.model} has other weights than this run's: {remedy}")
    now = identity.sources(loaded.checkpoint)
    changed = [name for name, digest in now.items() if (record.sources or now).get(name) != digest]
    if changed:
        raise UserError(f"{directory} was made with another {', '.join(changed)}: {remedy}")


def _refuse_misfit(model: Classifier, kept: Stored, record: Record, name: str) -> None:
    """Refuse a model that does not take the run's images, or tells other classes apart.

    Raises:
        UserError: it does not.
    """
    remedy = "name the model that was attacked"
    shape = kept.clean.shape[1:]
    try:
        logits: Any = passes.reference_outputs(model, torch.tensor(kept.clean[:2]))
    except (RuntimeError, ValueError, IndexError, TypeError) as fault:
        raise UserError(f"{name} does not take this run's images {shape} ({one_line(fault)}): {remedy}") from None
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise UserError(f"{name} does not return logits (N, K) for this run's images {shape}: {remedy}")
    if record.classes is not None and logits.shape[1] != record.classes:
        raise UserError(f"{name} has {logits.shape[1]} classes, this run's model {record.classes}: {remedy}")


def _unlike(model: Classifier, kept: Stored, record: Record) -> str | None:
    """In what a model answers otherwise than the recorded one, on noise: the stored images may be forged."""
    if record.behaviour is None:
        return None
    now = identity.behaviour(model, torch.tensor(kept.clean[:1]), "cpu", record.batch_size)
    return behaviour.difference(record.behaviour, now, same_images=False)


def _file_faults(made: runs.Run, kept: Stored, content: bytes) -> Iterable[str]:
    """What in the files of a run contradicts itself, whatever the model and the data are."""
    record, table, home = made.record, made.verdicts, made.directory or Path()
    for fault in record_faults(record):
        yield f"{home / 'run.json'}: {fault}"
    if edited := signature.record_fault(record):
        yield f"{home / 'run.json'}: {edited}"
    yield from signature.faults(home, record, content)
    for fault in row_faults(table, record):
        yield f"{home / 'verdicts.csv'}, {fault}"
    if record.finished and (lost := runs.missing(made)) > 0:
        yield f"{home / 'verdicts.csv'} lacks {lost} of the rows that run.json asks for"
    at, clean = adversarial.places(kept, table)
    if lacking := int(((at < 0) | (clean < 0)).sum()):
        yield f"{lacking} rows have no image in {home / signature.IMAGES}"
    if more := len(kept) - len(set(at[at >= 0].tolist())):
        yield f"{more} images in {home / signature.IMAGES} are of no row"


def _weak(made: runs.Run, record: Record) -> list[str]:
    """What a reader should know of how far the rows go."""
    rows = made.verdicts[made.verdicts["lawful"] & made.verdicts["eps"].notna()]
    used = (rows["size"] / rows["eps"]).max() if len(rows) and (rows["size"] > 0).any() else 1.0
    told = [f"that the budget was used: no lawful image is further than {used:.2g} of its eps"] if used < 0.9 else []
    if record.behaviour and record.behaviour.random:
        told.append("what a random model would say another time")
    if not record.finished:
        told.append("the rows that are not made yet")
    return told


def _disagreeing(model: Classifier, made: runs.Run, kept: Stored) -> Iterable[str]:
    """The rows that a new judgement does not bear out, of those that have their images."""
    at, clean = adversarial.places(kept, made.verdicts)
    table = made.verdicts.assign(at=at, clean=clean)
    table = table[(at >= 0) & (clean >= 0) & table["norm"].isin(NORMS)]
    batch = made.record.batch_size
    for _, group in table.groupby(["attack", "norm", "eps"], dropna=False, sort=False):
        for start in range(0, len(group), batch):
            rows = group.iloc[start : start + batch]
            images = kept.images[rows["at"].to_numpy()], kept.clean[rows["clean"].to_numpy()]
            for row in disagreements(model, rows, *images, made.record).to_dict("records"):
                yield f"image {row['index']} under {row['attack']}"


def disagreements(
    model: Classifier, rows: pd.DataFrame, images: NDArray[Any], clean: NDArray[Any], record: Record
) -> pd.DataFrame:
    """The stored rows of one attack and eps that a new judgement does not bear out.

    `rows` is a table with the columns of `verdicts.csv`; `images` and `clean` are arrays (n, C, H, W).
    """
    x, x_adv = torch.tensor(clean), torch.tensor(images)
    label, norm, bound = torch.tensor(rows["label"].tolist()), rows["norm"].iloc[0], rows["eps"].iloc[0]
    eps = None if bound != bound else torch.full((len(rows),), float(bound), dtype=torch.float64)
    # The draws of a random model are keyed by run and image, so that they are made again as they were.
    indices = torch.tensor(rows["index"].tolist())
    repeated = Repeated(record.draws, record.seed, label, indices) if record.draws > 1 else None
    clean_pred = settled(model, x, repeated)
    again = judge(model, x, x_adv, clean_pred, norm, eps, repeated)
    broken = verdicts.broken(label, clean_pred, again.adv_pred, again.lawful)
    # A search that met NaN and found nothing is flagged by the search itself, not by the image it left behind.
    flagged = torch.tensor((rows["adv_pred"] == NOT_FINITE).tolist()) & (again.size == 0)
    stands = (
        (clean_pred == torch.tensor(rows["clean_pred"].tolist()))
        & (again.adv_pred == torch.tensor(rows["adv_pred"].tolist()))
        & (again.lawful == torch.tensor(rows["lawful"].tolist()))
        & (broken == torch.tensor(rows["broken"].tolist()))
        & torch.isclose(again.size, torch.tensor(rows["size"].tolist(), dtype=torch.float64), rtol=1e-6, atol=1e-12)
    )
    return rows[~(stands | flagged).numpy()]
