"""Tables of Adversary Divergence Reduction (ADR): the latent cut, and attacks targeted and not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.papers import published as numbers
from bench.papers.adr.systems import CUTS, PAPER, Kind, chosen, is_default, is_multi_targeted, is_non_targeted, kind
from bench.papers.beside import Cells, Measured, Printed, accuracy, beside, fraction, steps, together
from bench.report.model_runs import Dossier, Threat, dossiers
from bench.store.runs import Run

ATTACKS = ("PGD", "BIM", "MIM")
_MODES = {"non-targeted": "non_targeted", "multiple-targeted": "multiple_targeted"}
_CUT_OF = {"2Conv": "conv2", "3Conv": "conv3", "4Conv": "conv", "4Conv+1FC": "fc1", "4Conv+2FC": "fc2"}
_CELLS = (
    *("n", "clean_accuracy", "clean_accuracy_published"),
    *(
        f"{mode}_{part}"
        for mode in _MODES.values()
        for part in ("steps", "accuracy", "accuracy_low", "accuracy_high", "accuracy_published")
    ),
)


@tables.register("adr/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when clean and under PGD, non-targeted and multiple-targeted, by the cut of the latent layer."""
    known: Printed = {}
    for line in numbers.results(published, PAPER, "3").to_dict("records"):
        cut = _CUT_OF[str(line["variant"]).partition("G=")[2].partition(",")[0]]
        known.setdefault((line["dataset"], cut), {})[_published(line)] = fraction(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        if row.system == "ADR-ADV" and (cells := _cells(dossier, threat, "PGD")):
            measured.setdefault((row.data, row.cut), []).append(cells)
    ranked = dict(sorted(known.items(), key=lambda item: CUTS.index(item[0][1])))
    return beside(("data", "cut", "model", "eps", *_CELLS), ranked, measured)


@tables.register("adr/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when clean and under PGD, BIM and MIM in their two forms, by attack and system."""
    known: Printed = {}
    natural: dict[tuple[str, str], float] = {}
    for line in numbers.results(published, PAPER, "4").to_dict("records"):
        who = line["dataset"], line["defense"]
        if line["attack"] == "none":
            natural[who] = fraction(line)
            continue
        key = (line["dataset"], line["attack"], line["defense"])
        known.setdefault(key, {"clean_accuracy_published": natural[who]})[_published(line)] = fraction(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        for attack in ATTACKS if is_default(dossier.record) else ():
            if cells := _cells(dossier, threat, attack):
                measured.setdefault((row.data, attack, row.system), []).append(cells)
    return beside(("data", "attack", "defense", "model", "eps", *_CELLS), known, measured)


def _published(line: Mapping[Any, Any]) -> str:
    """The column of a printed number."""
    if line["attack"] == "none":
        return "clean_accuracy_published"
    return f"{_MODES[line['params']['mode']]}_accuracy_published"


def _each(runs: Sequence[Run]) -> Iterator[tuple[Kind, Dossier, Threat]]:
    """Every model trained by the defense `adr`, under every threat it was run under."""
    for dossier in dossiers(runs):
        if row := kind(dossier):
            yield from ((row, dossier, threat) for threat in dossier.threats)


def _cells(dossier: Dossier, threat: Threat, attack: str) -> Cells:
    """What was measured of one attack in its two forms; empty if neither was run."""
    wanted = is_non_targeted(attack), is_multi_targeted(attack)
    attacks = [chosen(dossier, threat, form) for form in wanted]
    outcomes = together(*(judged.outcome if judged else None for judged in attacks))
    first = next((outcome for outcome in outcomes if outcome), None)
    if first is None:
        return {}
    clean = float(first.images["right"].mean())
    cells: Cells = {"model": dossier.model, "eps": threat[1], "n": len(first.images), "clean_accuracy": clean}
    for mode, judged, outcome in zip(_MODES.values(), attacks, outcomes, strict=True):
        cells |= accuracy(f"{mode}_accuracy", outcome)
        cells |= {f"{mode}_steps": steps([judged])} if judged else {}
    return cells
