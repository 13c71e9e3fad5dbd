"""Tables of bilateral adversarial training (R-MC-LA): accuracies under white-box attacks, from verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.papers.beside import Cells, Key, Measured, Printed, accuracy, beside, fraction, sizes, together
from bench.papers.bilateral.systems import BASELINES, Kind, columns, is_shown, kind, limited, moves, named, pgd, printed
from bench.report.model_runs import Dossier, Judged, Threat, dossiers
from bench.store.runs import Run

_NAMES = {"none": "clean", "FGSM": "fgsm", "CE20": "ce20", "CE100": "ce100", "CE1000": "ce1000", "CW100": "cw100"}
_OTHERS = {"MI-FGSM": "mim", "DeepFool-l2": "deepfool"}
_UNBOUNDED: dict[str, dict[str, Any]] = {"cw": {"lr": 0.1, "steps": 100, "c0": 100.0}, "deepfool": {}}
_SIZES = ("n", "steps", "mean_size", "mean_size_low", "mean_size_high", "median_size", "success_rate")
_SETTINGS = {"cw_100_steps": {"lr": 0.1, "steps": 100}, "cw_1000_steps": {"lr": 0.01, "steps": 1000}}
_FOUR = ("fgsm", "ce20", "ce100", "cw100")
_ABOUT = ("model", "eps", "n", "steps", "clean_accuracy", "clean_accuracy_published")


def _four() -> tuple[str, ...]:
    """The columns of tables 2, 3 and 5 after those that name a row; they end in the worst of all attacks."""
    worst = limited("worst_accuracy")[:3]
    return (*_ABOUT, *(part for name in _FOUR for part in limited(f"{name}_accuracy")), *worst)


def _each(runs: Sequence[Run]) -> Iterator[tuple[Kind, Dossier, Threat]]:
    """Every model under every threat it was run under."""
    for dossier in dossiers(runs):
        yield from ((kind(dossier), dossier, threat) for threat in dossier.threats)


def _cells(dossier: Dossier, threat: Threat, attacks: Mapping[str, Judged | None]) -> Cells:
    """What was measured of some attacks, and of the worst of all, on the images that all of them met."""
    met = [judged for judged in attacks.values() if judged is not None]
    outcomes = {name: judged.outcome if judged else None for name, judged in attacks.items()}
    outcomes["worst"] = dossier.worst(threat)
    cut = dict(zip(outcomes, together(*outcomes.values()), strict=True))
    first = next((cut[name] for name, judged in attacks.items() if judged), None)
    if first is None:
        return {}
    right = float(first.images["right"].mean())
    cells: Cells = {"model": dossier.model, "eps": threat[1], "n": len(first.images), "steps": moves(met, threat)}
    cells |= {"clean_accuracy": right}
    for name, outcome in cut.items():
        cells |= accuracy(f"{name}_accuracy", outcome)
    return cells


@tables.register("bat/1")
def table_1(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy under further white-box attacks by defense, and sizes that C&W and DeepFool need."""
    known: Printed = {}
    for system, line in printed(published, "1"):
        column = (_NAMES | _OTHERS).get(line["attack"])
        if column is None:
            column = f"cw_{line['params'].get('max_iter', 100)}_steps"
        known.setdefault((system.data, system.name), {})[f"{column}_accuracy_published"] = fraction(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        plain = {"fgsm": named(dossier, threat, "fgsm"), "ce1000": pgd(dossier, threat, 1000)}
        plain["mim"] = named(dossier, threat, "mim")
        slow = {name: named(dossier, threat, "cw_within", **fields) for name, fields in _SETTINGS.items()}
        slow["deepfool"] = named(dossier, threat, "deepfool_within")
        cells = _cells(dossier, threat, plain)
        if not cells or not is_shown(row):
            continue
        for name, judged in slow.items():
            cells |= accuracy(f"{name}_accuracy", judged.outcome if judged else None)
            cells |= {f"{name}_n": judged.n} if judged else {}
        for name, fields in _UNBOUNDED.items():
            cells |= sizes(f"{name}_l2", dossier.minimal(name, "l2", **fields))
        measured.setdefault((row.data, row.name), []).append(cells)
    attacks = (*("fgsm", "ce1000", "mim"), *_SETTINGS, "deepfool")
    shown = tuple(
        part
        for name in attacks
        for part in ((f"{name}_n",) if name in (*_SETTINGS, "deepfool") else ()) + limited(f"{name}_accuracy")
    )
    lengths = tuple(f"{name}_l2_{part}" for name in _UNBOUNDED for part in _SIZES)
    return beside(("data", "defense", *_ABOUT, *shown, *limited("worst_accuracy")[:3], *lengths), known, measured)


@tables.register("bat/2")
def table_2(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of R-MC-LA by the number of training images a class."""
    known: Printed = {}
    for system, line in printed(published, "2"):
        _note(known, (system.data, system.defense, system.images), line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        if row.defense in ("R-MC-LA", "R-MC-LA+") and row.labels == "main" and row.is_usual:
            _add(measured, (row.data, row.defense, row.images), dossier, threat)
    return beside(("data", "defense", "images_per_class", *_four()), known, measured)


@tables.register("bat/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of R-MC-LA, its longer schedule, its labels over nine classes, and adversarial training."""
    known: Printed = {}
    for system, line in printed(published, "3"):
        _note(known, (system.data, system.name), line)
    names = {key[1] for key in known}
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        if row.name in names:
            _add(measured, (row.data, row.name), dossier, threat)
    return beside(("data", "defense", *_four()), known, measured)


@tables.register("bat/5")
def table_5(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by how labels are made: by the main paper's solution or the supplement's."""
    known: Printed = {}
    for system, line in printed(published, "5"):
        _note(known, (system.data, system.defense, system.labels), line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs):
        if row.defense not in BASELINES and is_shown(row) and row.is_whole and row.is_usual:
            _add(measured, (row.data, row.defense, row.labels), dossier, threat)
    return beside(("data", "defense", "labels", *_four()), known, measured)


def _note(known: Printed, key: Key, line: Mapping[Any, Any]) -> None:
    known.setdefault(key, {})[f"{_NAMES[line['attack']]}_accuracy_published"] = fraction(line)


def _add(measured: Measured, key: Key, dossier: Dossier, threat: Threat) -> None:
    if cells := _cells(dossier, threat, columns(dossier, threat)):
        measured.setdefault(key, []).append(cells)
