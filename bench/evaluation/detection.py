"""Detecting: a detector fitted, calibrated and tested on separate images, against attacks and a joint one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bench.core import registry, specs
from bench.core.from_specs import from_spec
from bench.core.types import Classifier, UserError
from bench.data import loading
from bench.evaluation.detection_images import DetectionImages, Examples, parts
from bench.evaluation.detectors.detector import Detector, Fitted, Measure, TrainingImages, fit
from bench.evaluation.detectors.joint_attack import JointAttack
from bench.evaluation.plan import Planned, missing_needs
from bench.evaluation.request import Request, subject
from bench.evaluation.run import Prepared, prepare
from bench.models import checkpoints
from bench.ops import passes
from bench.store import detections
from bench.store.detections import DetectionRecord, DetectorEntry, EncoderEntry, JointEntry
from bench.store.lock import new_folder
from bench.store.record import Record, ThreatRecord


def build(written: str) -> tuple[specs.Spec, Detector]:
    """The detector of a spec, as in "er(encoder='er_digits')".

    Raises:
        UserError: not one detector; unknown name or field, or a value of another kind than the field's default.
    """
    named = specs.parse_specs(written, "detector")
    if len(named) > 1:
        raise UserError(f"--detector {written!r} names {len(named)} detectors: name one, and run the others in turn")
    detector: Detector = from_spec("detector", registry.detectors, named[0])
    return named[0], detector


def training_images(prepared: Prepared, request: Request) -> TrainingImages:
    """What a detector may look at before it is fitted: the training split of the data that is attacked.

    Raises:
        UserError: the data has no training split, or it is the one that is attacked.
    """
    job = prepared.job
    name = job.data.name
    if "train" not in loading.find(name).splits or job.data.split == "train":
        raise UserError(f"{name} {job.data.split}: a detector needs a training split beside it: give other --data")
    train = loading.load(name, "train", request.data_dir)
    classes = passes.classes(job.model, job.data.images[:1].to(job.device))

    def encoder(named: str) -> Classifier:
        # Loaded for this alone, so there is no state to give back.
        model: Classifier = checkpoints.load(named).model.to(job.device).requires_grad_(False)
        return model

    return TrainingImages(train.images[:], train.labels, classes, request.seed, job.batch_size, job.device, encoder)


def detect(
    request: Request,
    written: str,
    fit_attack: str | None,
    out: Path | None,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> detections.Detection:
    """Fit a detector on each attack, or on those of `fit_attack`, meet all of them and a joint one, and store it.

    Args:
        request: the model, the data and the attacks.
        written: the detector.
        fit_attack: the attacks to fit on.
        out: the folder, by default one under runs/.
        resume: take the detection of the folder if it is the one that is asked for; one that was stopped starts anew.
        tell: told what a user should know before it starts.

    Raises:
        UserError: a detector, attack, model or data set cannot be had, or they do not fit each other.
    """
    spec, detector = build(written)
    if resume and out is None:
        raise UserError("--resume needs --out: name the folder of the detection to continue")
    fitted_on = [str(attack) for attack in specs.parse_specs(fit_attack)] if fit_attack else []
    named = [str(attack) for attack in specs.parse_specs(request.attacks)]
    request = replace(request, attacks=",".join(dict.fromkeys([*named, *fitted_on])))
    began = time.monotonic()
    with prepare(request, subject(request)) as prepared:
        if lacking := missing_needs(detector, prepared.job.model):
            raise UserError(f"detector {str(spec)!r} needs the model to have {', '.join(lacking)}: it has not")
        evaluation = DetectorEvaluation(prepared, detector, training_images(prepared, request), fitted_on)
        directory = out or new_folder(Path("runs"), f"{request.model}-detect-{spec.name}")
        asked = _record(prepared, spec, detector, evaluation, 0.0)
        if resume and (stored := detections.again(directory, asked, evaluation.fitted_on)):
            return stored
        with detections.open_folder(directory) as folder:
            if resume or out is None:
                tell(f"{directory} holds no detection yet: it starts there" if resume else f"writing to {directory}")
            table = evaluation.scores()
            return folder.write(_record(prepared, spec, detector, evaluation, time.monotonic() - began), table)


@dataclass
class DetectorEvaluation:
    """A detector on a model's images; `facts` gathers what is worth recording."""

    prepared: Prepared
    detector: Detector
    training: TrainingImages
    fit_attacks: Sequence[str]
    joint: JointAttack = field(default_factory=JointAttack)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def fitted_on(self) -> list[str]:
        """The attacks that it is fitted on, each in turn."""
        labels = [planned.label for planned in self.prepared.attacks]
        return [label for label in labels if not self.fit_attacks or label in self.fit_attacks]

    def scores(self) -> pd.DataFrame:
        """Every row of `scores.csv`."""
        job, attacks = self.prepared.job, self.prepared.attacks
        if job.threats[0].eps is None:
            raise UserError("the joint attack on a detector needs a budget: give --eps")
        images = DetectionImages(job, self.training, parts(job.data.indices, job.seed))
        if empty := [part for part, places in images.places.items() if not len(places)]:
            raise UserError(f"{len(job.data)} images leave none for {empty[0]}: give a larger -n")
        measure = self.detector.measure(job.model, self.training)
        self.facts = {**measure.facts, "thresholds": {}, "noise": {}}
        tested = [images.attacked("test", planned) for planned in attacks]
        fitted_on = [planned for planned in attacks if planned.label in self.fitted_on]
        tables = [self._fitted_on(planned, images, measure, tested) for planned in fitted_on]
        return pd.concat(tables, ignore_index=True)

    def _fitted_on(
        self, planned: Planned, images: DetectionImages, measure: Measure, tested: Sequence[Examples]
    ) -> pd.DataFrame:
        """The rows of the detector fitted on one attack, which meets the examples `tested` and the joint attack."""
        adversarial = images.attacked("fit", planned).broken
        distance = adversarial.mean_distance(images.clean("fit")) if len(adversarial.x) else 0.0
        harmless = [images.clean("fit").right, images.noisy("fit", distance)]
        fitted = fit(measure, self.training, torch.cat([examples.x for examples in harmless]), adversarial.x)
        calibration = self._scored(fitted, images.clean("calibration"))
        right = calibration["label"] == calibration["clean_pred"]
        level = detections.threshold(calibration[right]["score"])
        self.facts["thresholds"][planned.label], self.facts["noise"][planned.label] = level, distance
        shown = [*harmless, adversarial, images.clean("test"), images.noisy("test", distance), *tested]
        shown.append(images.joint(fitted, level, self.joint))
        tables = [calibration, *(self._scored(fitted, examples) for examples in shown)]
        return pd.concat([table for table in tables if len(table)]).assign(fit_attack=planned.label)

    def _scored(self, fitted: Fitted, examples: Examples) -> pd.DataFrame:
        """Scores in float32 outside every attack, as the judge's predictions are."""
        return examples.rows.assign(score=self.training.batched(fitted.score, examples.x).double().tolist())


def _record(
    prepared: Prepared, spec: specs.Spec, detector: Detector, evaluation: DetectorEvaluation, seconds: float
) -> DetectionRecord:
    """What `detect.json` holds: the run's record with its budget as `threat`, and the detector."""
    record = prepared.record
    settings = {setting.name: getattr(detector, setting.name) for setting in fields(detector)}  # type: ignore[arg-type]
    about = {"spec": str(spec), "name": spec.name, "fields": settings, "encoder": _encoder(settings, record).to_dict()}
    joint = JointEntry(fields=asdict(evaluation.joint))
    return DetectionRecord.of(
        record,
        threat=ThreatRecord(norm=record.norm, eps=record.eps, eps_written=record.eps_written),
        detector=DetectorEntry.from_dict(about | {"joint": joint.to_dict()} | evaluation.facts),
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
