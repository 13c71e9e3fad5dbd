"""Which defense a run's model is, as the papers' tables name it: the baselines that all papers share."""

from __future__ import annotations

import re
from typing import NamedTuple

from bench.report.model_runs import Dossier
from bench.store.record import ModelRecord

_DEFENSES = {"natural": "Natural", "madry": "AT", "at": "AT", "trades": "TRADES", "mmc": "MMC", "mat": "MAT"}
DEFENSES = tuple(dict.fromkeys(_DEFENSES.values()))
"""The defenses of the paper's tables, in their order."""
_SWITCHES = {"TRADES": ("-", "O")}
_DATA = ("CIFAR10", "MNIST")


class System(NamedTuple):
    """A row of the tables: data set, defense, and whether SO and BIBO are on (O), off (X) or not a question (-)."""

    data: str
    defense: str
    so: str
    bibo: str


def parts(record: ModelRecord) -> tuple[str, str, str]:
    """A run's defense as the tables name it, and O, X or - for SO and for BIBO.

    MAT's weights alpha and beta decide where the checkpoint's stanza records them (`trained_with.mat`); otherwise the
    words of the defense and the model name: `mat-so-bibo`, `mat-bibo`, `mat-so`; plain `mat` has neither. TRADES has no
    SO to switch, and its robust term plays BIBO's part. The nets of the ER-Classifier (er_*) are none of the systems.
    """
    named, model = (re.split(r"[^a-z0-9]+", text.lower()) for text in (record.defense, record.model))
    words = named if any(named) else model
    known = {} if record.arch.startswith("er_") else _DEFENSES
    defense = next((known[word] for word in words if word in known), record.defense.upper())
    if defense != "MAT":
        return defense, *_SWITCHES.get(defense, ("-", "-"))
    weights = record.trained_with.get("mat")
    has_so = weights.get("alpha", 1) > 0 if weights else "so" in (*named, *model)
    has_bibo = weights.get("beta", 1) > 0 if weights else "bibo" in (*named, *model)
    return "MAT", "O" if has_so else "X", "O" if has_bibo else "X"


def system(dossier: Dossier) -> System:
    """The row of a model; data sets are named as the paper names them."""
    name = dossier.record.data
    data = next((one for one in _DATA if one.lower() == name.lower().replace("-", "")), name)
    return System(data, *parts(dossier.record))
