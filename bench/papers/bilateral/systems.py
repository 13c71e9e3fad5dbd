"""Which system of bilateral adversarial training's tables a run's model is, and which attacks their columns are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench.papers import published as numbers
from bench.papers.systems import defense, words
from bench.report.model_runs import Dossier, Judged, Threat
from bench.store.record import ModelRecord, Record

PAPER = "BAT-003"
BASELINES = ("Natural", "AT", "TRADES")
ALL = "all"
"""Images a class of a model that was trained on all of them, where the paper gives no number."""

_DATA = {name.lower(): name for name in ("CIFAR10", "CIFAR100", "SVHN", "MNIST")}
_WHOLE = {"CIFAR10": "5000", "CIFAR100": "500"}
_TARGETS = {"most_confusing": "MC", "random": "RAND", "mosa": "MOSA", "mix": "MIX"}
_SYSTEMS = {"Madry*": "AT", "madry": "AT", "undefended": "Natural", "ours": "R-MC-LA"}
_SMALLER = "4/255"
"""The eps that table 1's model was trained with, half of what it is attacked with."""
_PAPER_STEP = 0.25
"""The step of the paper's PGD over its eps: 2/255 of 8/255."""


class Kind(NamedTuple):
    """A model's data set, its defense as the paper names it, label solution, training images a class, training eps."""

    data: str
    defense: str
    labels: str
    images: str
    eps: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it was trained on all images of its data set."""
        return self.images == _WHOLE.get(self.data, ALL)

    @property
    def is_usual(self) -> bool:
        """Whether it was trained with the eps that it is attacked with."""
        return self.eps != _SMALLER

    @property
    def name(self) -> str:
        """Defense with what departs from its plainest form: R-MC-LA+ (sup), R-MC-LA (500 a class)."""
        more = [self.labels] if self.labels == "sup" else []
        more += [] if self.is_whole else [f"{self.images} a class"]
        more += [] if self.is_usual else [f"eps {self.eps}"]
        return f"{self.defense} ({', '.join(more)})" if more else self.defense


def data(record: Record) -> str:
    """A run's data set as the paper names it."""
    name = record.data
    return _DATA.get(name.lower().replace("-", ""), name)


def variant(record: ModelRecord) -> str | None:
    """The paper's name of a model trained by the defense `bilateral`, or None.

    R: random start; MC, RAND, MOSA: the target; LA: adversarial labels, 9 of how many classes. The stanza says all of
    it (`trained_with.bilateral`) but the longer schedule, which is a `plus` in the model's name.
    """
    trained = record.trained_with.get("bilateral")
    if trained is None:
        return None
    top = trained.get("top", 0)
    label = "" if trained.get("labels") == "one_hot" else f"-LA{top or ''}"
    start = "R-" if trained.get("random_start", True) else ""
    target = _TARGETS.get(trained.get("target", ""), "MC")
    return f"{start}{target}{label}{'+' * ('plus' in words(record.model))}"


def kind(dossier: Dossier) -> Kind:
    """What a model is; defenses of other papers have no labels."""
    record = dossier.record
    where, named = data(record), variant(record)
    counted = next((word[:-2] for word in words(record.model) if re.fullmatch(r"\d+pc", word)), _WHOLE.get(where, ALL))
    if named is None:
        return Kind(where, defense(record), "-", counted)
    trained = record.trained_with["bilateral"]
    labels = str(trained.get("labels", "main"))
    return Kind(where, named, "-" if labels == "one_hot" else labels, counted, str(trained.get("eps", "")))


def is_shown(row: Kind) -> bool:
    """Whether a model is one of this paper's, or one that it is compared with."""
    return row.labels != "-" or row.defense in BASELINES or row.defense.startswith(("R-", *_TARGETS.values()))


def printed(published: pd.DataFrame, table: str) -> Iterator[tuple[Kind, Mapping[Any, Any]]]:
    """The numbers of one of the tables, each with the system that it belongs to."""
    for line in numbers.results(published, PAPER, table).to_dict("records"):
        where, text = str(line["dataset"]), str(line["variant"])
        system = _SYSTEMS.get(line["defense"], str(line["defense"]))
        labels = "-" if system in BASELINES else "sup" if "solution sup" in text else "main"
        counted = re.search(r"images_per_class=(\d+)", text)
        images = counted.group(1) if counted else _WHOLE.get(where, ALL)
        yield Kind(where, system, labels, images, _SMALLER if "eps_x=4" in text else ""), line


def pgd(dossier: Dossier, threat: Threat, count: int) -> Judged | None:
    """CE`count`: PGD from a random start, once, with the step nearest to the paper's quarter of eps; on most images."""

    def is_usual(judged: Judged) -> bool:
        fields = judged.fields
        once = fields.get("random_start", True) and fields.get("restarts", 1) == 1
        return bool(judged.is_pgd and fields.get("steps") == count and once)

    usual = dossier.under(threat, is_usual)
    return min(usual, key=lambda judged: (abs(_step(judged, threat) - _PAPER_STEP), -judged.n), default=None)


def named(dossier: Dossier, threat: Threat, name: str, **wanted: Any) -> Judged | None:
    """An attack by its registered name and some of its fields, on the most images."""
    met = dossier.under(threat, lambda judged: judged.name == name and wanted.items() <= judged.fields.items())
    return next(iter(met), None)


def columns(dossier: Dossier, threat: Threat) -> dict[str, Judged | None]:
    """The attacks of tables 2, 3 and 5.

    CW100 is PGD on the logit margin: the paper's hinge of 50 is never reached before an image is fooled, and ours stops
    there.
    """
    return {
        "fgsm": named(dossier, threat, "fgsm"),
        "ce20": pgd(dossier, threat, 20),
        "ce100": pgd(dossier, threat, 100),
        "cw100": named(dossier, threat, "margin", steps=100),
    }


def moves(attacks: Sequence[Judged], threat: Threat) -> str:
    """How many steps attacks made and how long, as in "20/100 of eps/4"."""
    stepped = [judged for judged in attacks if judged.fields.get("steps")]
    lengths = sorted({f"eps/{1 / _step(judged, threat):.3g}" for judged in stepped})
    counts = sorted({int(judged.fields["steps"]) for judged in stepped})
    return f"{'/'.join(map(str, counts))} of {' or '.join(lengths)}" if counts else ""


def limited(name: str) -> tuple[str, ...]:
    """A column with its limits and the published number."""
    return name, f"{name}_low", f"{name}_high", f"{name}_published"


def _step(judged: Judged, threat: Threat) -> float:
    """An attack's step over eps; without a size of its own, its default in linf."""
    size = judged.fields.get("step_size")
    default = 1 / 5 if judged.name in ("mim", "bim") else 2.5 / judged.fields["steps"]
    return default if size is None or not threat[1] else float(size) / threat[1]
