"""Detecting: a detector fitted, calibrated and tried on images of its own each, against attacks and a joint one."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bench.core import registry, specs
from bench.core.from_specs import from_spec
from bench.core.types import UserError
from bench.data import loading
from bench.evaluation.detection_images import Grounds, Suspects, parts
from bench.evaluation.detectors.detector import Detector, Fitted, Known, fit
from bench.evaluation.detectors.joint_attack import Joint
from bench.evaluation.plan import missing_needs
from bench.evaluation.request import Request, subject
from bench.evaluation.run import Prepared, prepare
from bench.models import checkpoints
from bench.ops import passes
from bench.store import detections
from bench.store.detections import DetectionRecord, DetectorEntry, EncoderEntry, JointEntry
from bench.store.record import Record, ThreatRecord


def build(written: str) -> tuple[specs.Spec, Detector]:
    """The detector of a spec, as in "er(encoder='er_digits')".

    Raises:
        UserError: not one detector; unknown name or field, or a value of another kind than the field's default.
    """
    found = specs.parse_specs(written, "detector")
    if len(found) > 1:
        raise UserError(f"--detector {written!r} names {len(found)} detectors: name one, and run the others in turn")
    detector: Detector = from_spec("detector", registry.detectors, found[0])
    return found[0], detector


def known_of(prepared: Prepared, request: Request) -> Known:
    """What a detector may know: the training split of the data that is attacked.

    Raises:
        UserError: the data has no training split, or it is the one that is attacked.
    """
    job = prepared.job
    name = job.data.name
    if "train" not in loading.find(name).splits or job.data.split == "train":
        raise UserError(f"{name} {job.data.split}: a detector needs a training split beside it: give other --data")
    train = loading.load(name, "train", request.data_dir)
    classes = passes.classes(job.model, job.data.images[:1].to(job.device))

    def encoder(named: str) -> Any:
        return checkpoints.load(named).model.to(job.device).eval().requires_grad_(False)

    return Known(train.images, train.labels, classes, request.seed, job.batch_size, job.device, encoder)


def detect(request: Request, written: str, fit_attack: str | None, out: Path | None) -> detections.Detection:
    """Fit a detector on each attack, or on those of `fit_attack`, meet all of them and a joint one, and store it.

    Raises:
        UserError: a detector, attack, model or data set cannot be had, or they do not fit each other.
    """
    spec, detector = build(written)
    fitted_on = [str(one) for one in specs.parse_specs(fit_attack)] if fit_attack else []
    named = [str(one) for one in specs.parse_specs(request.attacks)]
    request = replace(request, attacks=",".join(dict.fromkeys([*named, *fitted_on])))
    directory = out or _folder(request.model, spec.name)
    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty: choose another --out")
    began = time.monotonic()
    with prepare(request, subject(request)) as prepared:
        if lacking := missing_needs(detector, prepared.job.model):
            raise UserError(f"detector {str(spec)!r} needs the model to have {', '.join(lacking)}: it has not")
        trial = Trial(prepared, detector, known_of(prepared, request), fitted_on)
        table = trial.scores()
    record = _record(prepared, spec, detector, trial, time.monotonic() - began)
    return detections.write(directory, record, table)


def _folder(model: str, detector: str) -> Path:
    stem = Path(model).name.replace(":", "-")
    return Path("runs") / f"{stem}-detect-{detector}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


@dataclass
class Trial:
    """One detector on one model; `facts` gathers what is worth recording."""

    prepared: Prepared
    detector: Detector
    known: Known
    fit_attacks: Sequence[str]
    joint: Joint = field(default_factory=Joint)
    facts: dict[str, Any] = field(default_factory=dict)

    def scores(self) -> pd.DataFrame:
        """Every row of `scores.csv`."""
        job, attacks = self.prepared.job, self.prepared.attacks
        if job.threats[0].eps is None:
            raise UserError("the joint attack on a detector needs a budget: give --eps")
        grounds = Grounds(job, self.known, parts(job.data.indices, job.seed))
        measure = self.detector.measure(job.model, self.known)
        self.facts = {**measure.facts, "thresholds": {}, "noise": {}}
        met = [grounds.attacked("test", planned) for planned in attacks]
        tables = []
        for planned in attacks:
            if self.fit_attacks and planned.label not in self.fit_attacks:
                continue
            adversarial = grounds.attacked("fit", planned).broken
            distance = adversarial.mean_distance(grounds.clean("fit")) if len(adversarial.x) else 0.0
            harmless = [grounds.clean("fit").right, grounds.noisy("fit", distance)]
            fitted = fit(measure, self.known, torch.cat([one.x for one in harmless]), adversarial.x)
            calibration = self._scored(fitted, grounds.clean("calibration"))
            right = calibration["label"] == calibration["clean_pred"]
            level = detections.threshold(calibration[right]["score"])
            self.facts["thresholds"][planned.label], self.facts["noise"][planned.label] = level, distance
            shown = [*harmless, adversarial, grounds.clean("test"), grounds.noisy("test", distance), *met]
            shown.append(grounds.joint(fitted, level, self.joint))
            found = [calibration, *(self._scored(fitted, one) for one in shown)]
            tables.append(pd.concat([one for one in found if len(one)]).assign(fit_attack=planned.label))
        return pd.concat(tables, ignore_index=True)

    def _scored(self, fitted: Fitted, suspects: Suspects) -> pd.DataFrame:
        """Scores in float32 outside every attack, as the judge's predictions are."""
        return suspects.rows.assign(score=self.known.batched(fitted.score, suspects.x).double().tolist())


def _record(prepared: Prepared, spec: specs.Spec, detector: Detector, trial: Trial, seconds: float) -> DetectionRecord:
    """What `detect.json` holds: the run's record with its budget as `threat`, and the detector."""
    record = prepared.record
    settings = {one.name: getattr(detector, one.name) for one in fields(detector)}  # type: ignore[arg-type]
    about = {"spec": str(spec), "name": spec.name, "fields": settings, "encoder": _encoder(settings, record).to_dict()}
    joint = JointEntry(fields=asdict(trial.joint))
    return DetectionRecord.of(
        record,
        threat=ThreatRecord(norm=record.norm, eps=record.eps, eps_written=record.eps_written),
        detector=DetectorEntry.from_dict(about | {"joint": joint.to_dict()} | trial.facts),
        seconds=seconds,
    )


def _encoder(settings: dict[str, Any], record: Record) -> EncoderEntry:
    """The model whose features are looked at: the attacked one, or another of the registry."""
    if not settings.get("encoder"):
        return EncoderEntry(
            model=record.model,
            defense=record.defense,
            trained_with=record.trained_with,
            weights_sha256=record.weights_sha256,
        )
    loaded = checkpoints.load(settings["encoder"])
    stanza = loaded.checkpoint
    trained = {name: dict(values) for name, values in stanza.trained_with.items()}
    return EncoderEntry(model=stanza.name, defense=stanza.defense, trained_with=trained, weights_sha256=loaded.sha256)
