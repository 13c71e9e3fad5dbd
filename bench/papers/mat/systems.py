"""Which system of MAT's tables a run's model is, and measured cells beside printed ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bench.papers import published as numbers
from bench.papers.systems import System, system
from bench.report.model_runs import Dossier, Judged, Threat

PAPER = "MAT-002"
_PRINTED_PGD = {"CIFAR10": {"steps": 20, "step_size": 0.003}, "MNIST": {"steps": 40, "step_size": 0.01}}


def printed_pgd(dossier: Dossier, threat: Threat) -> Judged | None:
    """PGD as the printed numbers were likely made, if it was run, else the PGD that was.

    The paper does not print its steps; these are those of TRADES' scripts, whose published row it repeats.
    """
    own = _PRINTED_PGD.get(system(dossier).data)
    found = dossier.under(threat, lambda one: one.is_pgd and own is not None and own.items() <= one.fields.items())
    return found[0] if found else dossier.pgd(threat)


def printed(published: pd.DataFrame, table: str) -> Iterable[tuple[System, Mapping[Any, Any]]]:
    """The numbers of one of MAT's tables, each with the row it belongs to."""
    for line in numbers.results(published, PAPER, table).to_dict("records"):
        switches = re.findall(r"=(\S+)", str(line["variant"])) or ["-", "-"]
        yield System(line["dataset"], line["defense"], *switches), line
