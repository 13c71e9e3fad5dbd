"""Tables of the ER-Classifier: intrinsic dimension, and detectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.papers.beside import Cells, Measured, Printed, beside, fraction, steps_of
from bench.papers.er.systems import PAPER, data, detector
from bench.report import detection_measures
from bench.report.model_runs import dossiers
from bench.store import detections
from bench.store.detections import Detection
from bench.store.runs import Run

_LIMITED = ("", "_low", "_high", "_published")
_NADV, _COM = (tuple(f"{name}_accuracy{end}" for end in _LIMITED) for name in ("nadv", "com"))
_METRICS = {"ACC-NADV": "nadv_accuracy", "ACC-COM": "com_accuracy"}
_ATTACKS = {"FGSM": "fgsm", "PGD": "pgd", "C&W": "cw"}
_MORE = ("auroc", "tpr_rate", "robust_accuracy", "robust_reject_accuracy")
_JOINT = tuple(f"joint_robust_reject_accuracy{end}" for end in ("", "_low", "_high"))


@tables.register("er/2")
def table_2(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Intrinsic dimension of data sets, from the probe `intrinsic_dimension`, and the embedding that was chosen."""
    known: Printed = {}
    for line in _printed(published, "2", ("result", "setting")):
        if line["metric"] == "estimated_intrinsic_dimension":
            known.setdefault((line["dataset"],), {})["dimension_published"] = float(line["value"])
        elif line["metric"] == "embedding_dimension":
            known.setdefault((line["dataset"],), {})["embedding_published"] = int(line["value"])
    measured: Measured = {}
    for dossier in dossiers(runs):
        probed = dossier.probe("intrinsic_dimension")
        if probed is None:
            continue
        pixels, key = probed[probed["points"] == "pixels"].iloc[0], (data(dossier.record),)
        # Pixels are the data set's own: of its models, the one that was seen on the most images.
        if int(pixels["n"]) > measured.get(key, [{"n": 0}])[0]["n"]:
            cells: Cells = {"model": dossier.model, **{name: int(pixels[name]) for name in ("n", "k1", "k2")}}
            cells |= {"pixels": int(pixels["size"]), "dimension": float(pixels["dimension"])}
            cells |= {"dimension_low": float(pixels["low"]), "dimension_high": float(pixels["high"])}
            measured[key] = [cells | {"dimension_k1": float(pixels["dimension_k1"])}]
    columns = ("data", "model", "n", "k1", "k2", "pixels", "dimension", "dimension_low", "dimension_high")
    return beside((*columns, "dimension_published", "dimension_k1", "embedding_published"), known, measured)


@tables.register("er/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on FGSM against high-confidence C&W."""
    return _high_confidence(runs, published, "3", "fgsm")


@tables.register("er/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on PGD against high-confidence C&W."""
    return _high_confidence(runs, published, "4", "pgd")


@tables.register("er/5")
def table_5(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on C&W against high-confidence C&W."""
    return _high_confidence(runs, published, "5", "cw")


@tables.register("er/6")
def table_6(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """ER detectors with and without the prior against the attack they were fitted on."""
    known: Printed = {}
    for line in _printed(published, "6"):
        key = (line["dataset"], _ATTACKS[line["attack"]], line["defense"])
        known.setdefault(key, {})[f"{_METRICS[line['metric']]}_published"] = fraction(line)
    measured: Measured = {}
    for run in _detections(runs):
        label, names = detector(run.record.detector), _names(run)
        for line in detection_measures.summary(run).to_dict("records"):
            if line["attack"] != line["fit_attack"] or not label.startswith("ER") or _confidence(run, line["attack"]):
                continue
            key = (data(run.record), names.get(str(line["attack"]), str(line["attack"])), label)
            measured.setdefault(key, []).append(_cells(run, line))
    columns = ("data", "attack", "detector", "model", "eps", "steps", "n", "broken_n", *_NADV, *_COM, *_MORE)
    return beside(columns, known, measured)


def _high_confidence(runs: Sequence[Run], published: pd.DataFrame, table: str, fitted_on: str) -> pd.DataFrame:
    known: Printed = {}
    for line in _printed(published, table):
        cells = known.setdefault((line["dataset"], line["defense"]), {})
        cells[f"{_METRICS[line['metric']]}_published"] = fraction(line)
    measured: Measured = {}
    for run in _detections(runs):
        names = _names(run)
        for fit_attack, rows in detection_measures.summary(run).groupby("fit_attack", sort=False):
            if names.get(str(fit_attack)) != fitted_on or _confidence(run, str(fit_attack)):
                continue
            lines = {str(line["attack"]): line for line in rows.to_dict("records")}
            strong = next((name for name in lines if names.get(name) == "cw" and _confidence(run, name)), None)
            if strong is None:
                continue
            cells = _cells(run, lines[strong]) | {"confidence": _confidence(run, strong)}
            joint = lines.get(detections.JOINT, {})
            cells |= {name: joint.get(name.removeprefix("joint_")) for name in _JOINT}
            cells |= {"eps": run.record.threat.eps, "joint_steps": steps_of(run.record.detector.joint.fields)}
            cells["known_auroc"] = lines[str(fit_attack)]["auroc"] if str(fit_attack) in lines else None
            measured.setdefault((data(run.record), detector(run.record.detector)), []).append(cells)
    columns = (
        "data",
        "detector",
        "model",
        "confidence",
        "steps",
        "eps",
        "joint_steps",
        "n",
        "broken_n",
        *_NADV,
        *_COM,
        *_MORE,
        "known_auroc",
        *_JOINT,
    )
    return beside(columns, known, measured)


def _printed(published: pd.DataFrame, table: str, kinds: tuple[str, ...] = ("result",)) -> Iterator[Mapping[Any, Any]]:
    wanted = (published["paper"] == PAPER) & (published["table"] == table) & published["kind"].isin(kinds)
    yield from published[wanted].to_dict("records")


def _detections(runs: Sequence[Run]) -> list[Detection]:
    return [run for run in runs if isinstance(run, Detection)]


def _names(run: Run) -> dict[str, str]:
    """The registered names of a detection's attacks."""
    return {entry.spec: entry.name for entry in run.record.attacks}


def _confidence(run: Run, spec: str) -> float:
    confidences = (entry.fields.get("confidence") or 0 for entry in run.record.attacks if entry.spec == spec)
    return float(next(confidences, 0))


def _cells(run: Run, line: Mapping[Any, Any]) -> Cells:
    names = ("eps", "n", "broken_n", *_NADV[:3], *_COM[:3], *_MORE)
    fields = next((entry.fields for entry in run.record.attacks if entry.spec == line["attack"]), {})
    return {"model": run.record.model, "steps": steps_of(fields)} | {name: line[name] for name in names}
