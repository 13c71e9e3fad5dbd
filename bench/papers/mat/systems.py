"""Which system of MAT's tables a run's model is, and its printed numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.papers import published as numbers
from bench.papers import systems
from bench.papers.systems import System
from bench.report.model_runs import Dossier, Judged, Threat
from bench.store.record import ModelRecord

PAPER = "MAT-002"
_NAMED = systems.BASELINES | {"mmc": "MMC", "mat": "MAT"}
DEFENSES = tuple(dict.fromkeys(_NAMED.values()))
"""The defenses of the paper's tables, in their order."""
_SWITCHES = {"TRADES": ("-", "O")}
_DATA = ("CIFAR10", "MNIST")
_PRINTED_PGD = {"CIFAR10": {"steps": 20, "step_size": 0.003}, "MNIST": {"steps": 40, "step_size": 0.01}}


def parts(record: ModelRecord) -> tuple[str, str, str]:
    """A run's defense as the tables name it, and O, X or - for SO and for BIBO: on, off, not a question.

    MAT's weights alpha and beta decide where the stanza has them (`trained_with.mat`), otherwise the words of defense
    and model name, as in `mat-so-bibo`. TRADES has no SO to switch, and its robust term plays BIBO's part.
    """
    defense = systems.defense(record, _NAMED)
    if defense != "MAT":
        return defense, *_SWITCHES.get(defense, ("-", "-"))
    named = {*systems.words(record.defense), *systems.words(record.model)}
    weights = record.trained_with.get("mat")
    has_so = weights.get("alpha", 1) > 0 if weights else "so" in named
    has_bibo = weights.get("beta", 1) > 0 if weights else "bibo" in named
    return "MAT", "O" if has_so else "X", "O" if has_bibo else "X"


def system(dossier: Dossier) -> System:
    """The row of a model; data sets are named as the paper names them."""
    name = dossier.record.data
    data = next((known for known in _DATA if known.lower() == name.lower().replace("-", "")), name)
    defense, *switches = parts(dossier.record)
    return System(data, defense, tuple(switches))


def printed_pgd(dossier: Dossier, threat: Threat) -> Judged | None:
    """PGD as the printed numbers were likely made, if it was run, else the PGD that was.

    The paper does not print its steps; these are those of TRADES' scripts, whose published row it repeats.
    """
    fields = _PRINTED_PGD.get(system(dossier).data)
    if fields is None:
        return dossier.pgd(threat)
    alike = dossier.under(threat, lambda judged: judged.is_pgd and fields.items() <= judged.fields.items())
    return alike[0] if alike else dossier.pgd(threat)


def printed(published: pd.DataFrame, table: str) -> Iterable[tuple[System, Mapping[Any, Any]]]:
    """The numbers of one of MAT's tables, each with the row it belongs to."""
    for line in numbers.results(published, PAPER, table).to_dict("records"):
        switches = re.findall(r"=(\S+)", str(line["variant"])) or ["-", "-"]
        yield System(line["dataset"], line["defense"], tuple(switches)), line
