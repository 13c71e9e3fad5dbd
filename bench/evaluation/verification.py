"""Stored adversarial examples judged again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray

from bench.core import verdicts
from bench.core.types import NOT_FINITE, Classifier, UserError
from bench.evaluation.judge import Repeated, judge, settled
from bench.models import checkpoints, memory_format
from bench.ops.frozen import frozen
from bench.ops.global_random import seeded
from bench.store import images as adversarial
from bench.store import runs
from bench.store.record import Record

_NAMED = 3
"""How many rows a message names."""


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


def verify(directory: Path, model: str | None) -> tuple[bool, str]:
    """Judge stored adversarial examples again; whether every verdict stands, and a line that says so.

    Everything is made anew from the stored images: clean and adversarial predictions, sizes, lawfulness.
    """
    kept, made = adversarial.load(directory), runs.load(directory)
    name = model or made.record.model
    with seeded(None, made.record.seed, "model"):
        loaded = checkpoints.load(name)
    if not model and loaded.sha256 != made.record.weights_sha256:
        raise UserError(f"{name} has other weights than this run's: name a model with --model to judge by it anyway")
    batch = made.record.batch_size
    with frozen(loaded.model), memory_format.suited(loaded.model, torch.tensor(kept.clean[:16])):
        differ = [
            f"image {row['index']} under {row['attack']}"
            for rows, (images, clean) in adversarial.by_trial(kept, made.verdicts)
            for at in range(0, len(rows), batch)
            for row in disagreements(
                loaded.model, rows.iloc[at : at + batch], images[at : at + batch], clean[at : at + batch], made.record
            ).to_dict("records")
        ]
    total = len(made.verdicts)
    if differ:
        named = ", ".join(differ[:_NAMED]) + (", ..." if len(differ) > _NAMED else "")
        return False, f"{len(differ)} of {total} verdicts of {directory} do not stand: {named}"
    return True, f"all {total} verdicts of {directory} stand"
