"""Table of bilateral adversarial training (R-MC-LA): gradient magnitude, from probes."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.core.registry import tables
from bench.papers.beside import Cells, Measured, Printed, beside
from bench.papers.bilateral.systems import is_shown, kind, limited, printed
from bench.report import significance
from bench.report.model_runs import dossiers
from bench.store.runs import Run


@tables.register("bat/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Largest and mean gradient of cross-entropy at clean images by defense, from the probe `gradients`."""
    known: Printed = {}
    for system, line in printed(published, "4"):
        column = f"{line['metric'].rpartition('_')[2]}_published"
        known.setdefault((system.data, system.name), {})[column] = float(line["value"])
    measured: Measured = {}
    for dossier in dossiers(runs):
        row, probed = kind(dossier), dossier.probe("gradients")
        if probed is not None and is_shown(row):
            lengths = probed["l2"].tolist()
            low, high = significance.mean([value / 255 for value in lengths])
            cells: Cells = {"model": dossier.model, "n": len(lengths)} | _magnitude(lengths)
            cells |= {"mean_norm_low": low, "mean_norm_high": high}
            measured.setdefault((row.data, row.name), []).append(cells)
    shown = ("max_published", "max_squared", "max_norm", "mean_published", "mean_squared")
    return beside(("data", "defense", "model", "n", *shown, *limited("mean_norm")[:3]), known, measured)


def _magnitude(lengths: Sequence[float]) -> Cells:
    """Largest and mean gradient norm, plain and squared, of norms for images in [0, 1]; reported for [0, 255]."""
    plain = [value / 255 for value in lengths]
    squared = [value**2 for value in plain]
    return {
        "max_squared": max(squared),
        "mean_squared": sum(squared) / len(squared),
        "max_norm": max(plain),
        "mean_norm": sum(plain) / len(plain),
    }
