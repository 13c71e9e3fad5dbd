"""Which system a run's model is, as papers' tables name it: what all papers share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from bench.store.record import ModelRecord

BASELINES = {"natural": "Natural", "madry": "AT", "at": "AT", "trades": "TRADES"}
"""The defenses that papers compare theirs with, by the words that name them in a stanza."""


class System(NamedTuple):
    """A row of a paper's tables: a data set, a defense, and what tells the defense's variants apart, if anything."""

    data: str
    defense: str
    variant: tuple[str, ...] = ()


def defense(record: ModelRecord, known: Mapping[str, str] = BASELINES) -> str:
    """The defense of a run's model, by the words of its defense or, without one, of its name.

    A defense that is not among the `known` ones is written in capitals. The nets of the ER-Classifier (er_*) are none
    of other papers' systems.
    """
    ours = {} if record.arch.startswith("er_") else known
    named = words(record.defense)
    chosen = named if any(named) else words(record.model)
    return next((ours[word] for word in chosen if word in ours), record.defense.upper())


def words(text: str) -> list[str]:
    """The words of a name, without punctuation, in lower case."""
    return re.split(r"[^a-z0-9]+", text.lower())
