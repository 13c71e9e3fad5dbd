"""Which system of ADR's tables a run's model is, and where it is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.report.model_runs import Dossier, Judged, Threat
from bench.store.record import ModelRecord, Record

PAPER = "ADR-000"
CUTS = ("conv2", "conv3", "conv", "fc1", "fc2")
"""The five cuts of table 3, by the last stage before the latent layer; conv is all four convolutions, the default."""

STEPS = 100
_STANDARD = ("carlini_wagner", "small_cnn")
_DATA = ("MNIST", "CIFAR-10")
_TERMS = {"lc": "LC", "gb": "GB", "smt": "SMT", "conf": "CONF"}
_DEFAULT = {"penultimate": "fc2", "conv4": "conv"}


class Kind(NamedTuple):
    """A model's data set as the tables name it, its system, and its latent layer."""

    data: str
    system: str
    cut: str


def weights(record: ModelRecord) -> Mapping[str, Any] | None:
    """ADR's weights as the model's stanza has them; None for a model trained otherwise."""
    return record.trained_with.get("adr")


def system(record: ModelRecord) -> str | None:
    """The paper's name of a model trained by the defense `adr`, or None.

    ADV and TRADES have no component; ADR-ADV and ADR-TRADES have both compactnesses and smoothness, whether with
    confidence or not, as its table 1 sets by data set; others name what they have, as in ADR+LC/GB.
    """
    trained = weights(record)
    if trained is None:
        return None
    trades = trained.get("base") == "trades"
    on = [name for key, name in _TERMS.items() if trained.get(key, 0)]
    if not on:
        return "TRADES" if trades else "ADV"
    full = {"LC", "GB", "SMT"} <= set(on)
    stem = "ADR-TRADES" if trades else "ADR-ADV" if full else "ADR"
    return stem if full else f"{stem}+{'/'.join(on)}"


def cut(record: ModelRecord) -> str:
    """The latent layer of a model, as in `CUTS` for the paper's CNNs; the end of the body for nets without a choice."""
    named = str(record.args.get("cut", "penultimate"))
    return _DEFAULT.get(named, named) if record.arch in _STANDARD else named


def is_default(record: ModelRecord) -> bool:
    """Whether the latent layer is the paper's: after the convolutions, or the pooled features of a residual net."""
    return cut(record) == "conv" or "cut" not in record.args


def kind(dossier: Dossier) -> Kind | None:
    """What a model is; None if it was not trained by the defense `adr`.

    The paper's data sets are its standard CNN's: other nets stand beside it under a name of their own.
    """
    record = dossier.record
    named = system(record)
    return None if named is None else Kind(data(record), named, cut(record))


def data(record: Record) -> str:
    """A run's data set as the tables name it; with the architecture where that is not the paper's CNN."""
    name = record.data
    known = next((paper for paper in _DATA if paper.lower().replace("-", "") == name.lower().replace("-", "")), None)
    if known is None:
        return name
    return known if record.arch in _STANDARD else f"{known}, {record.arch}"


def is_multi_targeted(name: str) -> Callable[[Judged], bool]:
    """Whether an attack is the multiple-targeted form of PGD, BIM or MIM."""
    return lambda judged: judged.name == ("multi_targeted" if name == "PGD" else f"{name.lower()}_multi_targeted")


def is_non_targeted(name: str) -> Callable[[Judged], bool]:
    """Whether an attack is PGD, BIM or MIM away from the true class."""
    return (lambda judged: judged.is_pgd) if name == "PGD" else lambda judged: judged.name == name.lower()


def chosen(dossier: Dossier, threat: Threat, wanted: Callable[[Judged], bool]) -> Judged | None:
    """The attack of a kind to show: first with the paper's 100 steps, then on the most images, then the longest."""
    return min(
        dossier.under(threat, wanted),
        key=lambda judged: (judged.fields.get("steps") != STEPS, -judged.n, -int(judged.fields.get("steps") or 0)),
        default=None,
    )
