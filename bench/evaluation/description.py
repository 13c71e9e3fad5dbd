"""What `run.json` will say of a run: the request, the model, the images and the attacks, as they were settled."""

from __future__ import annotations

import datetime

from bench.evaluation.plan import Planned
from bench.evaluation.request import Request, Subject
from bench.evaluation.schedule import Job
from bench.store.provenance import provenance
from bench.store.record import AttackEntry, Record, StageEntry, ThreatRecord


def _entry(planned: Planned) -> AttackEntry:
    """An attack as `run.json` holds it, with its stages if it has any."""
    return AttackEntry(
        spec=planned.label,
        name=planned.name,
        norm=planned.norm,
        minimal=planned.attack.minimal,
        adaptive=planned.is_adaptive,
        fields=planned.fields,
        stages=tuple(StageEntry(spec=stage.label, name=stage.name, fields=stage.fields) for stage in planned.stages),
    )


def described(request: Request, tested: Subject, job: Job, attacks: list[Planned]) -> Record:
    """The record of a run before anything of it is made."""
    written = [threat.written or str(threat.eps) for threat in job.threats if threat.eps is not None]
    values = [threat.eps for threat in job.threats if threat.eps is not None]
    sweep = len(values) > 1
    return Record(
        model=tested.checkpoint.name,
        arch=tested.checkpoint.arch,
        args=dict(tested.checkpoint.args),
        defense=tested.checkpoint.defense,
        trained_for=_trained_for(tested),
        trained_with={name: dict(fields) for name, fields in tested.checkpoint.trained_with.items()},
        weights_sha256=tested.sha256,
        data=tested.data.name,
        split=tested.data.split,
        indices=tuple(tested.data.indices.tolist()),
        sample=tested.sample,
        data_options=dict(tested.data_options),
        data_sha256=tested.data.sha256,
        data_order=tested.data.order,
        attacks=tuple(_entry(planned) for planned in attacks),
        adaptive=tuple(planned.label for planned in attacks if planned.is_adaptive),
        norm=job.threats[0].norm,
        eps=None if sweep or not values else values[0],
        eps_written=None if sweep or not written else written[0],
        eps_grid=tuple(zip(values, written, strict=True)) if sweep else None,
        eps_order=request.order if sweep else None,
        seed=request.seed,
        batch_size=job.batch_size,
        device=job.device,
        search_dtype=request.search_dtype,
        draws=job.draws,
        max_passes=job.max_passes,
        save_adversarial=request.save_adversarial,
        **provenance(),
        command=request.command,
        start=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _trained_for(tested: Subject) -> ThreatRecord | None:
    threat = tested.checkpoint.trained_for
    return None if threat is None else ThreatRecord(norm=threat.norm, eps=threat.eps)
