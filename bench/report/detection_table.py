"""The table of a detection: `table.csv`, `table.tex` and `table.md` of a fitted detector against each attack."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.core.types import UserError
from bench.report import detection_measures, render
from bench.store.detections import Detection

_STATED = ("model", "data", "detector", "n")
_READING = (
    "Fit attack: what the detector was fitted on; joint: the adaptive attack on classifier and detector. NADV: right "
    "clean and noisy images passed, COM: attacked images flagged or right, both at even odds; AUROC and TPR at 5% FPR: "
    "right clean against broken images; reject: at the threshold that rejects 5% of right calibration images. Fit, "
    "calibration and test images are disjoint. Percent, but for AUROC."
)
_BESIDE = ("nadv_accuracy", "com_accuracy", "robust_reject_accuracy")


def protocol(run: Detection, table: pd.DataFrame) -> str:
    """What was measured, in one line."""
    record, first = run.record, table.iloc[0] if len(table) else None
    threat = record.threat
    n = 0 if first is None else int(first["n"])
    parts = [
        f"model {record.model}",
        f"detector {record.detector.spec}",
        f"data {record.data} ({record.split})",
        f"n = {n} test images of {len(record.indices)}",
        f"{threat.norm} ε = {threat.eps_written}",
        f"seed {record.seed}",
    ]
    return ", ".join(parts)


def caption(run: Detection, table: pd.DataFrame) -> str:
    """The protocol as a sentence."""
    stated = protocol(run, table)
    return f"{stated[:1].upper()}{stated[1:]}."


def write(run: Detection, directory: Path | None = None) -> str:
    """Write the table beside the scores, or elsewhere; return it for a terminal.

    Raises:
        UserError: the scores are damaged, or the place cannot be written.
    """
    place = directory or run.directory
    if place is None:
        raise UserError("a detection in memory has no directory: give one")
    table, threat = detection_measures.summary(run), run.record.threat
    written = {} if threat.eps is None else {float(threat.eps): str(threat.eps_written)}
    render.write(place, "table", table, caption(run, table), written, _STATED, _READING)
    limits = [f"{name}_{end}" for name in _BESIDE for end in ("low", "high")]
    shown = table.drop(columns=[*_STATED, "clean_accuracy", *limits, "fpr_rate"])
    return f"{protocol(run, table)}\n\n{render.console(shown, written)}"
