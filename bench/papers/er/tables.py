"""Tables of the ER-Classifier: intrinsic dimension, and detectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.papers.beside import Cells, beside, share, steps_of
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

Known = dict[tuple[Any, ...], Cells]
Measured = dict[tuple[Any, ...], list[Cells]]


@tables.register("er/2")
def table_2(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Intrinsic dimension of data sets, and the embedding dimension that was chosen (ER-Classifier, table 2).

    Measured beside published: Levina and Bickel's estimate on raw pixels, averaged over k (k1 to k2) as the paper's
    toolbox does, which divides by k - 2; the last column divides by k - 1. Low and high are the least and the greatest
    over the k. Needs `bench probe RUN --probes intrinsic_dimension`. A row without a probe has only the published
    numbers.
    """
    known: Known = {}
    for line in _printed(published, "2", ("result", "setting")):
        if line["metric"] == "estimated_intrinsic_dimension":
            known.setdefault((line["dataset"],), {})["dimension_published"] = float(line["value"])
        elif line["metric"] == "embedding_dimension":
            known.setdefault((line["dataset"],), {})["embedding_published"] = int(line["value"])
    measured: Measured = {}
    for dossier in dossiers(runs):
        found = dossier.probe("intrinsic_dimension")
        if found is None:
            continue
        pixels, key = found[found["points"] == "pixels"].iloc[0], (data(dossier.record),)
        # Pixels are the data set's own: of its models, the one that was seen on the most images.
        if int(pixels["n"]) > measured.get(key, [{"n": 0}])[0]["n"]:
            cells: Cells = {"model": dossier.model, **{name: int(pixels[name]) for name in ("n", "k1", "k2")}}
            cells |= {"pixels": int(pixels["size"]), "dimension": float(pixels["dimension"])}
            cells |= {"dimension_low": float(pixels["low"]), "dimension_high": float(pixels["high"])}
            measured[key] = [cells | {"dimension_k1": float(pixels["dimension_k1"])}]
    columns = ("data", "model", "n", "k1", "k2", "pixels", "dimension", "dimension_low", "dimension_high")
    return _beside((*columns, "dimension_published", "dimension_k1", "embedding_published"), known, measured)


@tables.register("er/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on FGSM against high-confidence C&W (ER-Classifier, table 3)."""
    return _high_confidence(runs, published, "3", "fgsm")


@tables.register("er/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on PGD against high-confidence C&W (ER-Classifier, table 4)."""
    return _high_confidence(runs, published, "4", "pgd")


@tables.register("er/5")
def table_5(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Detectors fitted on C&W against high-confidence C&W (ER-Classifier, table 5)."""
    return _high_confidence(runs, published, "5", "cw")


_ABOUT = """

    Measured beside published. NADV: right clean and noisy test images that pass; COM: attacked test images that are
    flagged or still right, both at even odds and both our reading of undefined names; AUROC and TPR at 5 % FPR: right
    clean against broken images; reject: right, not rejected when clean, and no broken twin that passes the threshold
    that rejects 5 % of right calibration images. ER1 and ER2 are our choice: encoders trained without and with min-max
    training, a minus without the prior. Fit (40 %), calibration (20 %) and test images are disjoint. ε is the joint
    attack's too; confidence is C&W's, in the paper 9 on MNIST and 20 on CIFAR-10. A row without a detection has only
    the published numbers.
    """
for _table in (table_3, table_4, table_5):
    _table.__doc__ = f"{_table.__doc__}{_ABOUT}"


@tables.register("er/6")
def table_6(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """ER detectors with and without the prior against the attack they were fitted on (ER-Classifier, table 6)."""
    known: Known = {}
    for line in _printed(published, "6"):
        key = (line["dataset"], _ATTACKS[line["attack"]], line["defense"])
        known.setdefault(key, {})[f"{_METRICS[line['metric']]}_published"] = share(line)
    measured: Measured = {}
    for run in _detections(runs):
        label, names = detector(run.record.detector), _names(run)
        for line in detection_measures.summary(run).to_dict("records"):
            if line["attack"] != line["fit_attack"] or not label.startswith("ER") or _confidence(run, line["attack"]):
                continue
            key = (data(run.record), names.get(str(line["attack"]), str(line["attack"])), label)
            measured.setdefault(key, []).append(_cells(run, line))
    columns = ("data", "attack", "detector", "model", "eps", "steps", "n", "broken_n", *_NADV, *_COM, *_MORE)
    return _beside(columns, known, measured)


table_6.__doc__ = f"{table_6.__doc__}{_ABOUT}"


def _high_confidence(runs: Sequence[Run], published: pd.DataFrame, table: str, fitted_on: str) -> pd.DataFrame:
    known: Known = {}
    for line in _printed(published, table):
        cells = known.setdefault((line["dataset"], line["defense"]), {})
        cells[f"{_METRICS[line['metric']]}_published"] = share(line)
    measured: Measured = {}
    for run in _detections(runs):
        names, found = _names(run), detection_measures.summary(run)
        for fit_attack, rows in found.groupby("fit_attack", sort=False):
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
    return _beside(columns, known, measured)


def _printed(published: pd.DataFrame, table: str, kinds: tuple[str, ...] = ("result",)) -> Iterator[Mapping[Any, Any]]:
    wanted = (published["paper"] == PAPER) & (published["table"] == table) & published["kind"].isin(kinds)
    yield from published[wanted].to_dict("records")


def _detections(runs: Sequence[Run]) -> list[Detection]:
    return [run for run in runs if isinstance(run, Detection)]


def _names(run: Run) -> dict[str, str]:
    """The registered names of a detection's attacks."""
    return {entry.spec: entry.name for entry in run.record.attacks}


def _confidence(run: Run, spec: str) -> float:
    found = (entry.fields.get("confidence") or 0 for entry in run.record.attacks if entry.spec == spec)
    return float(next(found, 0))


def _cells(run: Run, line: Mapping[Any, Any]) -> Cells:
    names = ("eps", "n", "broken_n", *_NADV[:3], *_COM[:3], *_MORE)
    fields = next((entry.fields for entry in run.record.attacks if entry.spec == line["attack"]), {})
    return {"model": run.record.model, "steps": steps_of(fields)} | {name: line[name] for name in names}


def _beside(columns: Sequence[str], known: Known, measured: Measured) -> pd.DataFrame:
    """`systems.beside` for keys of one to three parts: it places rows by the part after the data set."""
    single = all(len(key) == 1 for key in (*known, *measured))
    if not single:
        return beside(columns, known, measured)
    first, second = (
        {(*key, ""): value for key, value in known.items()},
        {(*key, ""): measured[key] for key in measured},
    )
    return beside((columns[0], "", *columns[1:]), first, second).drop(columns="")
