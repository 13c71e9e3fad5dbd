"""Probing a stored run: its model and its adversarial examples to files beside it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from bench.core import registry, specs
from bench.core.from_specs import from_spec
from bench.core.types import CLEAN, UserError
from bench.evaluation import identity, trust
from bench.evaluation.plan import missing_needs
from bench.evaluation.probes.probe import Images, Probe, ProbedRun
from bench.models import checkpoints, memory_format, precision
from bench.models.adapted import adapted
from bench.ops.devices import device_named
from bench.ops.frozen import frozen
from bench.store import images as adversarial
from bench.store import probes, runs
from bench.store.provenance import provenance


def probe(
    directory: Path,
    written: str,
    out: Path | None = None,
    device: str = "auto",
    model: str | None = None,
    trusted: bool = False,
) -> str:
    """Look at a run with each probe named, as in "cosine,match_rate(limit=2000)"; the files, a line each.

    Args:
        directory: the run.
        written: the probes.
        out: the folder whose `probes` they go to, by default the run's.
        device: where to compute.
        model: another name of the run's model.
        trusted: whether code that the record names may be run.

    Raises:
        UserError: the run holds no adversarial examples, its weights have changed, or a probe does not fit the model.
    """
    made = runs.load(directory)
    asked = specs.parse_specs(written, "probe")
    looks: dict[str, Probe] = {spec.name: from_spec("probe", registry.probes, spec) for spec in asked}
    kept = adversarial.load(directory)
    named = trust.model_named(made.record.model, model, trusted, str(directory / "run.json"))
    loaded = checkpoints.load(named)
    if loaded.sha256 != made.record.weights_sha256:
        raise UserError(f"{named} has other weights than this run's: run it again, then probe")
    run = probed(made, kept, device_named(device))
    about = {"model": made.record.model, "weights_sha256": loaded.sha256, "versions": provenance()["versions"]}
    few = run.clean.x[:16].to(run.device)
    subject = adapted(loaded.model.to(run.device), few)
    for name, look in looks.items():
        if lacking := missing_needs(look, subject):
            needs = ", ".join(lacking)
            raise UserError(f"probe {name!r} needs the model to have {needs}: {made.record.model} has not")
    lines = []
    with frozen(subject), precision.precision(tf32=False), memory_format.suited(subject, few):
        identity.refuse_another(subject, made, run.clean.x, run.device)
        for name, look in looks.items():
            table = look(subject, run)
            lines.append(str(probes.write(out or directory, name, table, {"fields": _settings(look), **about})))
    return "\n".join(lines)


def probed(made: runs.Run, kept: adversarial.Stored, device: str = "cpu") -> ProbedRun:
    """A run's stored images as probes look at them."""
    labels = made.verdicts.drop_duplicates("index").set_index("index")["label"]
    indices = kept.clean_indices
    clean = _images(
        CLEAN, "", None, kept.clean, labels.loc[indices.tolist()].to_numpy(), indices, np.zeros(len(indices), bool)
    )
    attacked = []
    for rows, (images, _) in adversarial.by_trial(kept, made.verdicts):
        attack, norm, eps = rows.iloc[0][["attack", "norm", "eps"]]
        columns = (rows[name].to_numpy() for name in ("label", "index", "broken"))
        attacked.append(_images(attack, norm, None if np.isnan(eps) else float(eps), images, *columns))
    return ProbedRun(clean, tuple(attacked), made.record, made.record.batch_size, device)


def _images(attack: str, norm: str, eps: float | None, *columns: ArrayLike) -> Images:
    """Images from arrays: x, y, indices and broken."""
    return Images(attack, norm, eps, *(torch.from_numpy(np.array(column)) for column in columns))


def _settings(look: Probe) -> dict[str, Any]:
    return {field.name: getattr(look, field.name) for field in fields(type(look))}  # type: ignore[arg-type]
