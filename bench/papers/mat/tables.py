"""Tables of manifold-aware training (MAT): accuracies and sizes, from verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from bench.core.eps import parse_eps
from bench.core.registry import tables
from bench.papers.beside import Cells, Key, Measured, Printed, accuracy, beside, fraction, sizes, steps, together
from bench.papers.mat.systems import printed, printed_pgd, system
from bench.papers.systems import System
from bench.report.model_runs import Dossier, Judged, Threat, dossiers
from bench.store.runs import Run

_ROW = ("data", "defense", "so", "bibo", "model", "eps", "n")
_SIZES = ("n", "steps", "mean_size", "mean_size_low", "mean_size_high", "mean_size_published")
_MODES = tuple(f"pgd{count}_{mode}" for count in (10, 50) for mode in ("targeted", "untargeted"))


def _limited(name: str) -> tuple[str, ...]:
    return name, f"{name}_low", f"{name}_high", f"{name}_published"


def _key(row: System) -> Key:
    return row.data, row.defense, *row.variant


def _each(runs: Sequence[Run], defenses: set[str], own: bool = False) -> Iterator[tuple[System, Dossier, Threat]]:
    """Every model with one of some defenses, under every threat it was run under, or its own alone."""
    for dossier in dossiers(runs):
        row = system(dossier)
        for threat in dossier.threats if row.defense in defenses else ():
            if not own or dossier.is_own(threat):
                yield row, dossier, threat


@tables.register("mat/2")
def table_2(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when clean and under PGD, and sizes of C&W's and DDN's perturbations, by defense."""
    names = {
        ("none", "clean_accuracy"): "clean_accuracy_published",
        ("PGD", "robust_accuracy"): "pgd_accuracy_published",
        ("C&W", "mean_perturbation_norm"): "cw_mean_size_published",
        ("DDN", "mean_perturbation_norm"): "ddn_mean_size_published",
    }
    known: Printed = {}
    for row, line in printed(published, "2"):
        value = fraction(line) if line["unit"] == "percent" else float(line["value"])
        known.setdefault(_key(row), {})[names[line["attack"], line["metric"]]] = value
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}, own=True):
        attacks = {name: dossier.minimal(name, "l2") for name in ("cw", "ddn")}
        pgd = printed_pgd(dossier, threat)
        if pgd is None:
            continue
        cells = _about(dossier, threat, pgd) | {"pgd_steps": steps([pgd])} | accuracy("pgd_accuracy", pgd.outcome)
        for name, attack in attacks.items():
            cells |= sizes(name, attack)
        measured.setdefault(_key(row), []).append(cells)
    columns = (*_ROW, "clean_accuracy", "clean_accuracy_published", "pgd_steps", *_limited("pgd_accuracy"))
    columns += tuple(f"{name}_{part}" for name in ("cw", "ddn") for part in (*_SIZES, "median_size", "success_rate"))
    return beside(columns, known, measured)


@tables.register("mat/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy under targeted and untargeted PGD with 10 and 50 steps, by defense and eps."""
    known: Printed = {}
    clean: dict[tuple[str, str], float] = {}
    for row, line in printed(published, "3"):
        if line["attack"] == "none":
            clean[row[:2]] = fraction(line)
            continue
        setting = line["params"]
        name = f"pgd{setting['k']}_{setting['mode']}_accuracy_published"
        key = (*row[:2], parse_eps(setting["eps"]))
        known.setdefault(key, {"clean_accuracy_published": clean[row[:2]]})[name] = fraction(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}):
        attacks = {name: _pgd(dossier, threat, name) for name in _MODES}
        first = next((judged for judged in attacks.values() if judged), None)
        if first is None or (row.defense == "MAT" and row.variant != ("O", "O")):
            continue
        cells = _about(dossier, threat, first)
        for name, judged in attacks.items():
            cells |= accuracy(f"{name}_accuracy", judged.outcome if judged else None)
        measured.setdefault((*row[:2], threat[1]), []).append(cells)
    columns = ("data", "defense", "eps", "model", "n", "clean_accuracy", "clean_accuracy_published")
    return beside((*columns, *(part for name in _MODES for part in _limited(f"{name}_accuracy"))), known, measured)


@tables.register("mat/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy under PGD and under adaptive attacks on the same images, by defense."""
    known: Printed = {}
    for row, line in printed(published, "4"):
        column = "pgd_accuracy_published" if line["attack"] == "PGD" else "adaptive_accuracy_published"
        known.setdefault(_key(row), {})[column] = fraction(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}, own=True):
        pgd, own = printed_pgd(dossier, threat), dossier.under(threat, lambda judged: judged.adaptive)
        if pgd is None or not own:
            continue
        plain, adaptive = together(pgd.outcome, dossier.adaptive(threat))
        cells = _about(dossier, threat, pgd) | {"n": len(plain.images) if plain else 0}
        cells |= {"pgd_steps": steps([pgd]), "adaptive_steps": steps(own)}
        cells |= accuracy("pgd_accuracy", plain) | accuracy("adaptive_accuracy", adaptive)
        measured.setdefault(_key(row), []).append(cells)
    pairs = (("pgd_steps", *_limited("pgd_accuracy")), ("adaptive_steps", *_limited("adaptive_accuracy")))
    return beside((*_ROW, *pairs[0], *pairs[1]), known, measured)


def _about(dossier: Dossier, threat: Threat, attack: Judged) -> Cells:
    clean = float(attack.outcome.images["right"].mean())
    return {"model": dossier.model, "eps": threat[1], "n": attack.n, "clean_accuracy": clean}


def _pgd(dossier: Dossier, threat: Threat, name: str) -> Judged | None:
    """The PGD of one of the columns, such as pgd10_targeted."""
    count, _, mode = name.removeprefix("pgd").partition("_")
    wanted = int(count), mode == "targeted"

    def fits(judged: Judged) -> bool:
        fields = judged.fields
        return judged.name == "pgd" and (fields.get("steps"), bool(fields.get("targeted"))) == wanted

    return next(iter(dossier.under(threat, fits)), None)
