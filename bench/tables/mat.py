"""Tables of manifold-aware training (MAT)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench import measures
from bench.registry import tables
from bench.store import Run
from bench.tables import published as numbers

_COLUMNS = (
    "data",
    "defense",
    "so",
    "bibo",
    "model",
    "eps",
    "n",
    "pgd_accuracy",
    "pgd_accuracy_published",
    "adaptive_accuracy",
    "adaptive_accuracy_published",
)

Row = tuple[str, str, str, str]
"""Where a number belongs: (data, defense, SO, BIBO)."""


def parts(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """A run's row of table 4: the defense in capitals, and O or X for SO and for BIBO.

    MAT's weights alpha and beta decide where the checkpoint's stanza records them (`trained_with.mat`); otherwise the
    words of the defense and the model name: `mat-so-bibo`, `mat-bibo`, `mat-so`; plain `mat` has neither. TRADES has no
    SO to switch, and its robust term plays BIBO's part.
    """
    words = re.split(r"[^a-z0-9]+", f"{record.get('defense', '')} {record.get('model', '')}".lower())
    if "trades" in words:
        return "TRADES", "-", "O"
    if "mat" not in words:
        return str(record.get("defense", "")).upper(), "X", "X"
    weights = (record.get("trained_with") or {}).get("mat")
    has_so = weights.get("alpha", 1) > 0 if weights else "so" in words
    has_bibo = weights.get("beta", 1) > 0 if weights else "bibo" in words
    return "MAT", "O" if has_so else "X", "O" if has_bibo else "X"


@tables.register("mat/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy under PGD and under adaptive attacks (MAT, table 4), measured beside published.

    Fractions. PGD is the run's first attack named pgd in its norm; adaptive is the per-image worst over the record's
    `adaptive` attacks at the same eps. Several runs of one row stand below each other; a row without a run has only the
    published numbers. Runs that lack one of the two, and sweeps, are left out.
    """
    printed: dict[Row, dict[str, float]] = {}
    for _, line in numbers.results(published, "MAT-002", "4").iterrows():
        so, bibo = re.findall(r"=(\S+)", line["variant"])
        column = "pgd_accuracy_published" if line["attack"] == "PGD" else "adaptive_accuracy_published"
        printed.setdefault((line["dataset"], line["defense"], so, bibo), {})[column] = round(
            float(line["value"]) / 100, 6
        )
    datasets = list(dict.fromkeys(row[0] for row in printed))
    measured: dict[Row, list[dict[str, Any]]] = {row: [] for row in printed}
    for run in runs:
        defense, so, bibo = parts(run.record)
        if defense in ("TRADES", "MAT") and _evaluates(run):
            measured.setdefault((_dataset(run, datasets), defense, so, bibo), []).append(_measured(run))
    order = list(dict.fromkeys([*datasets, *(row[0] for row in measured)]))
    rows = [
        dict(zip(_COLUMNS, row, strict=False)) | printed.get(row, {}) | cells
        for row, found in sorted(measured.items(), key=lambda item: order.index(item[0][0]))
        for cells in found or [{}]
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"n": "Int64"})


def _evaluates(run: Run) -> bool:
    """Whether a run belongs in the table: one budget, and PGD and adaptive attacks on the same images."""
    names = [attack.get("name") for attack in run.record.get("attacks", ())]
    return run.record.get("eps") is not None and "pgd" in names and bool(run.record.get("adaptive"))


def _dataset(run: Run, known: Sequence[str]) -> str:
    name = str(run.record.get("data", ""))
    return next((one for one in known if one.lower() == name.lower().replace("-", "")), name)


def _measured(run: Run) -> dict[str, Any]:
    entries = {entry["spec"]: entry for entry in run.record.get("attacks", ())}
    pgd = next((spec for spec, entry in entries.items() if entry.get("name") == "pgd"), None)
    adaptive = run.record.get("adaptive", ())
    return {
        "model": run.record.get("model", ""),
        "eps": run.record["eps"],
        "n": run.verdicts["index"].nunique(),
        "pgd_accuracy": _robust(run, lambda spec: spec == pgd),
        "adaptive_accuracy": _robust(run, lambda spec: spec in adaptive),
    }


def _robust(run: Run, wanted: Callable[[str], bool]) -> float:
    """Robust accuracy of the worst of some attacks, at the largest eps of the run; NaN if none was run."""
    eps = max(measures.budgets(run.record), default=None)
    here = [one for one in measures.outcomes(run) if (one.norm, one.eps) == (run.record.get("norm"), eps)]
    chosen = [one for one in here if one.attack != measures.WORST and wanted(one.attack)]
    return float(measures.worst(chosen).numbers()["robust_accuracy"]) if chosen else float("nan")
