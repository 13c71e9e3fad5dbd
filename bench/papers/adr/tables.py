"""Tables of Adversary Divergence Reduction (ADR): the latent cut, and attacks targeted and not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.papers import published as numbers
from bench.papers.adr.systems import CUTS, PAPER, Kind, chosen, is_default, is_multi_targeted, is_non_targeted, kind
from bench.papers.beside import Cells, accuracy, beside, share, steps, together
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

Keyed = dict[tuple[Any, ...], Cells]


@tables.register("adr/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Where the latent layer is cut: natural accuracy, non-targeted and multiple-targeted PGD (ADR, table 3).

    Measured beside published, of ADR-ADV. The cut is named by the last stage before the latent layer (conv: all four
    convolutions and their pools, the paper's default). Multiple-targeted: an image is robust while it keeps its label
    against every wrong class as target. Both attacks are on the same n images; the paper takes 100 steps on 10000. A
    row without a run has only the published numbers.
    """
    known: Keyed = {}
    for line in numbers.results(published, PAPER, "3").to_dict("records"):
        cut = _CUT_OF[str(line["variant"]).partition("G=")[2].partition(",")[0]]
        known.setdefault((line["dataset"], cut), {})[_published(line)] = share(line)
    measured: dict[tuple[Any, ...], list[Cells]] = {}
    for row, dossier, threat in _each(runs):
        if row.system == "ADR-ADV" and (found := _cells(dossier, threat, "PGD")):
            measured.setdefault((row.data, row.cut), []).append(found)
    ranked = dict(sorted(known.items(), key=lambda item: CUTS.index(item[0][1])))
    return beside(("data", "cut", "model", "eps", *_CELLS), ranked, measured)


@tables.register("adr/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Natural accuracy and PGD, BIM and MIM, non-targeted and multiple-targeted, of ADV and ADR-ADV (ADR, table 4).

    Measured beside published, with the latent layer after the convolutions. Multiple-targeted: an image is robust while
    it keeps its label against every wrong class as target. Both forms of an attack are on the same n images; the paper
    takes 100 steps on 10000, and prints no other system. A row without a run has only the published numbers.
    """
    known: Keyed = {}
    natural: dict[tuple[str, str], float] = {}
    for line in numbers.results(published, PAPER, "4").to_dict("records"):
        who = line["dataset"], line["defense"]
        if line["attack"] == "none":
            natural[who] = share(line)
            continue
        key = (line["dataset"], line["attack"], line["defense"])
        known.setdefault(key, {"clean_accuracy_published": natural[who]})[_published(line)] = share(line)
    measured: dict[tuple[Any, ...], list[Cells]] = {}
    for row, dossier, threat in _each(runs):
        for attack in ATTACKS if is_default(dossier.record) else ():
            if found := _cells(dossier, threat, attack):
                measured.setdefault((row.data, attack, row.system), []).append(found)
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
    found = [chosen(dossier, threat, one) for one in wanted]
    outcomes = together(*(one.outcome if one else None for one in found))
    there = next((one for one in outcomes if one), None)
    if there is None:
        return {}
    clean = float(there.images["right"].mean())
    cells: Cells = {"model": dossier.model, "eps": threat[1], "n": len(there.images), "clean_accuracy": clean}
    for mode, one, outcome in zip(_MODES.values(), found, outcomes, strict=True):
        cells |= accuracy(f"{mode}_accuracy", outcome)
        cells |= {f"{mode}_steps": steps([one])} if one else {}
    return cells
