"""Which model it was: what it answers on a fixed batch, and the source files that a user's own model and attacks have.

A hash of weights does not see an edited `forward`, other preprocessing, or another default of a factory.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.files import sha256_of
from bench.core.text import is_plain, shown
from bench.core.types import Checkpoint, Classifier, UserError
from bench.core.user_code import sources_of
from bench.evaluation.plan import Planned
from bench.evaluation.request import Subject
from bench.evaluation.schedule import Job
from bench.models.adapted import logits_at
from bench.models.sources.source import kind_of
from bench.ops import passes, rng
from bench.store.behaviour import difference
from bench.store.record import Behaviour, Record
from bench.store.runs import Run

IMAGES = 16
"""How many of a run's images are tried, and how many of noise."""
_KEPT = 10
"""How many numbers an image: its logits, or as many projections of them where there are more classes."""
_FAR = 1e4
"""How many times the usual distance from the middle logit counts; masked classes lie at the end of float32."""


def told(record: Record, tested: Subject, job: Job, planned: list[Planned], classes: int) -> Record:
    """A run's record that says which model it is, so that another one under its name is told from it.

    Raises:
        UserError: a name holds a control character, which no table could show.
    """
    for what, name in (("model", record.model), ("data", record.data), *(("attack", label) for label in record.labels)):
        if not is_plain(name):
            raise UserError(f"{what} {shown(name)} holds a control character: give it another name")
    return replace(
        record,
        classes=classes,
        image=tuple(job.data.images.shape[1:]),
        sources=sources(tested.checkpoint, planned),
        origin=dict(tested.checkpoint.origin),
        logits_at=logits_at(job.model),
        behaviour=behaviour(job.model, job.data.images[:IMAGES], job.device, job.batch_size),
    )


def behaviour(model: Classifier, images: Tensor, device: str, batch_size: int) -> Behaviour:
    """What a prepared model answers on the first of a run's images (N, C, H, W) and on noise by key.

    The global random state stays as it was, so that a run's draws do not depend on this.
    """
    few = images[:IMAGES]
    noise = rng.uniform(rng.keys(0, torch.arange(IMAGES), "identity"), few.shape[1:])
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        logits = _logits(model, torch.cat([few, noise]), device, batch_size)
        again = _logits(model, noise, device, batch_size)
    first, second = (Behaviour(random=False, noise=IMAGES, **_compact(answers)) for answers in (logits, again))
    return replace(first, random=difference(first, second, same_images=False) is not None)


def refuse_another(model: Classifier, made: Run, clean: Tensor, device: str) -> None:
    """Refuse a prepared model that answers otherwise than the one a run was made with, on noise.

    `clean` (m, C, H, W) are images of the run: they may be forged, and give their shape alone.

    Raises:
        UserError: it does.
    """
    recorded = made.record.behaviour
    now = recorded and behaviour(model, clean[:1], device, made.record.batch_size)
    if recorded and now and (unlike := difference(recorded, now, same_images=False)):
        raise UserError(f"{made.directory} was made with {unlike}: give the model that it was made with")


def _logits(model: Classifier, x: Tensor, device: str, batch_size: int) -> Tensor:
    parts = [passes.reference_outputs(model, part.to(device)) for part in torch.split(x, max(1, batch_size))]
    return torch.cat(parts).double().cpu()


def _compact(logits: Tensor) -> dict[str, Any]:
    """Logits (N, K) as at most `_KEPT` numbers an image, and how far the logits of an image lie apart (N,)."""
    finite = logits.isfinite()
    known = torch.where(finite, logits, torch.nan)
    middle = known.nanmedian(1, keepdim=True).values.nan_to_num()
    apart = (known - middle).abs()
    usual = apart.nanmedian(1, keepdim=True).values.nan_to_num()
    # Where most classes share one logit, their median distance is 0.
    usual = torch.where(usual > 0, usual, apart.nan_to_num().amax(1, keepdim=True))
    scale = torch.where(apart <= _FAR * usual, apart, torch.nan).nanmean(1, keepdim=True).nan_to_num()
    near = (logits.nan_to_num() - middle).clamp(-_FAR * usual, _FAR * usual)
    if logits.shape[1] > _KEPT:
        signs = rng.signs(rng.keys(0, torch.arange(_KEPT), "identity projections"), (logits.shape[1],)).double()
        near, finite = near @ signs.T / math.sqrt(logits.shape[1]), finite.all(1, keepdim=True).expand(-1, _KEPT)
    else:
        near = near + middle
    rows = zip(near.tolist(), finite.tolist(), strict=True)
    values = tuple(tuple(_short(a) if fine else None for a, fine in zip(*row, strict=True)) for row in rows)
    return {"values": values, "scales": tuple(_short(number) for number in scale.flatten().tolist())}


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def sources(checkpoint: Checkpoint, planned: Sequence[Planned] = ()) -> dict[str, str]:
    """The sha256 of the Python files of a factory and of attacks of one's own, by their names as they were typed.

    Of a factory in an importable module, that module's file alone; of a model of a source, the files it was read from.
    """
    known, arch = dict[str, str](checkpoint.origin.get("files", {})), checkpoint.arch
    for name, folder in ((arch, checkpoint.home), *((attack.name, Path()) for attack in planned)):
        place = name.rpartition(":")[0]
        file = getattr(sys.modules.get(place), "__file__", None)
        if place.endswith(".py") and (folder / Path(place).expanduser()).is_file():
            path = Path(place).expanduser()
            known |= {str(path.parent / part): digest for part, digest in sources_of(folder / path).items()}
        elif name == arch and not kind_of(arch) and file and file.endswith(".py"):
            known[place] = sha256_of(Path(file))
    return dict(sorted(known.items()))
