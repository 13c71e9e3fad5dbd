"""Everything stored about one model, whichever runs it lies in: what papers' tables and pages are written from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from bench.report import measures
from bench.store import probes
from bench.store.record import AttackEntry, Record
from bench.store.runs import Run

ENOUGH = 500
"""How many images, if not all, an attack must have met to decide which images `worst` is over."""

GRADIENT_FREE = ("square", "spsa", "hsj")
AUTOATTACK = ("autoattack", "autoattack-custom", "autoattack:standard")

Threat = tuple[str, float]
"""A norm and an eps."""


@dataclass(frozen=True)
class Judged:
    """What one attack of a run did at one eps: its entry in the run's record, and the outcome image by image."""

    entry: AttackEntry
    outcome: measures.Outcome
    adaptive: bool

    @property
    def name(self) -> str:
        """The registered name, without arguments."""
        return self.entry.name

    @property
    def fields(self) -> Mapping[str, Any]:
        """The attack's fields, as the record has them."""
        return self.entry.fields

    @property
    def n(self) -> int:
        """How many images it met."""
        return len(self.outcome.images)

    @property
    def is_pgd(self) -> bool:
        """Whether it is PGD on cross-entropy without a target."""
        return self.name == "pgd" and not self.fields.get("targeted")


@dataclass(frozen=True)
class Dossier:
    """The runs of one model: the same weights on the same images of a data set, sweeps last."""

    runs: tuple[Run, ...]

    @property
    def record(self) -> Record:
        """The record of the first run: what all of them say of the model and the data is the same."""
        return self.runs[0].record

    @property
    def model(self) -> str:
        """The model's name."""
        return self.record.model

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every attack of every run at every eps; stages of ensembles are in their ensemble's."""
        return tuple(judged for run in self.runs for judged in _judged(run))

    @property
    def threats(self) -> list[Threat]:
        """Every norm and eps that a run other than a sweep asked for, in order."""
        return sorted({(run.record.norm, run.record.eps) for run in self.runs if run.record.eps is not None})

    def is_own(self, threat: Threat) -> bool:
        """Whether a threat is, within a twentieth, the one that the model's stanza names; so if it names none."""
        own = self.record.trained_for
        if own is None:
            return True
        return own.norm == threat[0] and own.eps is not None and abs(threat[1] - own.eps) <= own.eps / 20

    def under(self, threat: Threat, wanted: Callable[[Judged], bool] = lambda judged: True) -> list[Judged]:
        """The attacks that meet a description under a threat: those on the most images first."""
        under = [judged for judged in self.judged if (judged.outcome.norm, judged.outcome.eps) == threat]
        return sorted(filter(wanted, under), key=lambda judged: -judged.n)

    def pgd(self, threat: Threat) -> Judged | None:
        """PGD on cross-entropy, on the most images that a run had; with its default fields before others."""
        attacks = self.under(threat, lambda judged: judged.is_pgd)
        return min(attacks, key=lambda judged: (-judged.n, judged.outcome.attack != "pgd"), default=None)

    def adaptive(self, threat: Threat) -> measures.Outcome | None:
        """The worst of the adaptive attacks."""
        return worst(self.under(threat, lambda judged: judged.adaptive))

    def worst(self, threat: Threat) -> measures.Outcome | None:
        """The worst of all attacks."""
        return worst(self.under(threat))

    def minimal(self, name: str, norm: str, **wanted: Any) -> Judged | None:
        """A minimal attack by its registered name, norm and some of its fields, on the most images that a run had."""
        named = [judged for judged in self.judged if judged.name == name and judged.outcome.norm == norm]
        named = [judged for judged in named if wanted.items() <= judged.fields.items()]
        return max(named, key=lambda judged: judged.n, default=None)

    def probing(self, name: str) -> tuple[Run, pd.DataFrame] | None:
        """The first of the runs that a probe looked into, with what it found."""
        return next(((run, table) for run in self.runs if (table := probes.read(run, name)) is not None), None)

    def probe(self, name: str) -> pd.DataFrame | None:
        """What a probe found in the first of the runs that has it."""
        probing = self.probing(name)
        return probing[1] if probing else None

    def attack_named(self, spec: str) -> str:
        """The registered name of an attack as rows write it."""
        entries = [entry for run in self.runs for entry in run.record.attacks]
        return next((entry.name for entry in entries if entry.spec == spec), spec)


def dossiers(runs: Iterable[Run]) -> list[Dossier]:
    """Runs by model and data, in the order of their names."""
    keys = ("data", "model", "weights_sha256", "split", "data_sha256")
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.record.eps is None, str(run.directory or ""))):
        groups.setdefault(tuple(getattr(run.record, key) for key in keys), []).append(run)
    return [Dossier(tuple(groups[key])) for key in sorted(groups)]


def worst(attacks: Sequence[Judged]) -> measures.Outcome | None:
    """The per-image minimum over attacks of one norm and eps; None without any.

    It is over the images that all attacks on at least `ENOUGH` images, or on as many as any, have met. An attack on
    fewer is too slow to decide that, and counts where it was run: it can only lower the accuracy.
    """
    if not attacks:
        return None
    most = max(judged.n for judged in attacks)
    whole = [judged.outcome for judged in attacks if judged.n >= min(ENOUGH, most)]
    result = measures.worst(whole)
    images = result.images.copy()
    for judged in attacks:
        if judged.n < min(ENOUGH, most):
            images["broken"] |= judged.outcome.images["broken"].reindex(images.index, fill_value=False)
    return replace(result, images=images)


def robust(outcome: measures.Outcome) -> pd.Series[Any]:
    """Whether each image, by its index, is right and not broken."""
    return outcome.images["right"] & ~outcome.images["broken"]


def _judged(run: Run) -> list[Judged]:
    entries = {entry.spec: entry for entry in run.record.attacks}
    return [
        Judged(entries[outcome.attack], outcome, outcome.attack in run.record.adaptive)
        for outcome in measures.outcomes(run)
        if outcome.attack in entries
    ]
