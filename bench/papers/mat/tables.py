"""Tables of manifold-aware training (MAT): accuracies and sizes, from verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import tables
from bench.core.specs import parse_eps
from bench.papers.beside import Cells, accuracy, beside, share, sizes, steps, together
from bench.papers.mat.systems import printed, printed_pgd
from bench.papers.systems import System, system
from bench.report.model_runs import Dossier, Judged, Threat, dossiers
from bench.store.runs import Run

_ROW = ("data", "defense", "so", "bibo", "model", "eps", "n")
_SIZES = ("n", "steps", "mean_size", "mean_size_low", "mean_size_high", "mean_size_published")
_MODES = tuple(f"pgd{count}_{mode}" for count in (10, 50) for mode in ("targeted", "untargeted"))

Measured = dict[tuple[Any, ...], list[Cells]]


def _limited(name: str) -> tuple[str, ...]:
    return name, f"{name}_low", f"{name}_high", f"{name}_published"


def _each(runs: Sequence[Run], defenses: set[str], own: bool = False) -> Iterator[tuple[System, Dossier, Threat]]:
    """Every model with one of some defenses, under every threat it was run under, or its own alone."""
    for dossier in dossiers(runs):
        row = system(dossier)
        for threat in dossier.threats if row.defense in defenses else ():
            if not own or dossier.is_own(threat):
                yield row, dossier, threat


@tables.register("mat/2")
def table_2(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy when clean and under PGD, and sizes of C&W's and DDN's perturbations (MAT, table 2).

    Measured beside published. PGD has 40 steps of 0.01 on MNIST and 20 of 0.003 on CIFAR-10 where that was run, which
    the paper does not print. C&W and DDN: mean l2 norm over the broken images on the [0, 1] scale, median, and the
    share of correctly classified images that were broken; the paper prints a mean, of which images is unknown. A row
    without a run has only the published numbers.
    """
    names = {
        ("none", "clean_accuracy"): "clean_accuracy_published",
        ("PGD", "robust_accuracy"): "pgd_accuracy_published",
        ("C&W", "mean_perturbation_norm"): "cw_mean_size_published",
        ("DDN", "mean_perturbation_norm"): "ddn_mean_size_published",
    }
    known: dict[tuple[Any, ...], Cells] = {}
    for row, line in printed(published, "2"):
        value = share(line) if line["unit"] == "percent" else float(line["value"])
        known.setdefault(row, {})[names[line["attack"], line["metric"]]] = value
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}, own=True):
        attacks = {name: dossier.minimal(name, "l2") for name in ("cw", "ddn")}
        pgd = printed_pgd(dossier, threat)
        if pgd is None:
            continue
        cells = _about(dossier, threat, pgd) | {"pgd_steps": steps([pgd])} | accuracy("pgd_accuracy", pgd.outcome)
        for name, attack in attacks.items():
            cells |= sizes(name, attack)
        measured.setdefault(row, []).append(cells)
    columns = (*_ROW, "clean_accuracy", "clean_accuracy_published", "pgd_steps", *_limited("pgd_accuracy"))
    columns += tuple(f"{name}_{part}" for name in ("cw", "ddn") for part in (*_SIZES, "median_size", "success_rate"))
    return beside(columns, known, measured)


@tables.register("mat/3")
def table_3(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy under targeted and untargeted PGD with 10 and 50 steps, by eps (MAT, table 3).

    Measured beside published. Targeted: one random wrong class an image, and an image is robust while its prediction is
    its label. MAT is SO with BIBO. The paper gives bounds for natural training, at most 1 %, which stand here as 1.
    """
    known: dict[tuple[Any, ...], Cells] = {}
    clean: dict[tuple[str, str], float] = {}
    for row, line in printed(published, "3"):
        if line["attack"] == "none":
            clean[row[:2]] = share(line)
            continue
        setting = line["params"]
        name = f"pgd{setting['k']}_{setting['mode']}_accuracy_published"
        key = (*row[:2], parse_eps(setting["eps"]))
        known.setdefault(key, {"clean_accuracy_published": clean[row[:2]]})[name] = share(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}):
        found = {name: _pgd(dossier, threat, name) for name in _MODES}
        there = [one for one in found.values() if one]
        if not there or (row.defense == "MAT" and (row.so, row.bibo) != ("O", "O")):
            continue
        cells = _about(dossier, threat, there[0])
        for name, one in found.items():
            cells |= accuracy(f"{name}_accuracy", one.outcome if one else None)
        measured.setdefault((*row[:2], threat[1]), []).append(cells)
    columns = ("data", "defense", "eps", "model", "n", "clean_accuracy", "clean_accuracy_published")
    return beside((*columns, *(part for name in _MODES for part in _limited(f"{name}_accuracy"))), known, measured)


@tables.register("mat/4")
def table_4(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy under PGD and under adaptive attacks (MAT, table 4).

    Measured beside published, PGD as in table 2. Adaptive is the per-image worst over the adaptive attacks that the
    model's structure allows; the paper's is one attack, on the training loss. Both are on the same n images. A row
    without a run has only the published numbers.
    """
    known: dict[tuple[Any, ...], Cells] = {}
    for row, line in printed(published, "4"):
        column = "pgd_accuracy_published" if line["attack"] == "PGD" else "adaptive_accuracy_published"
        known.setdefault(row, {})[column] = share(line)
    measured: Measured = {}
    for row, dossier, threat in _each(runs, {key[1] for key in known}, own=True):
        pgd, theirs = printed_pgd(dossier, threat), dossier.under(threat, lambda one: one.adaptive)
        if pgd is None or not theirs:
            continue
        plain, adaptive = together(pgd.outcome, dossier.adaptive(threat))
        cells = _about(dossier, threat, pgd) | {"n": len(plain.images) if plain else 0}
        cells |= {"pgd_steps": steps([pgd]), "adaptive_steps": steps(theirs)}
        cells |= accuracy("pgd_accuracy", plain) | accuracy("adaptive_accuracy", adaptive)
        measured.setdefault(row, []).append(cells)
    pairs = (("pgd_steps", *_limited("pgd_accuracy")), ("adaptive_steps", *_limited("adaptive_accuracy")))
    return beside((*_ROW, *pairs[0], *pairs[1]), known, measured)


def _about(dossier: Dossier, threat: Threat, attack: Judged) -> Cells:
    clean = float(attack.outcome.images["right"].mean())
    return {"model": dossier.model, "eps": threat[1], "n": attack.n, "clean_accuracy": clean}


def _pgd(dossier: Dossier, threat: Threat, name: str) -> Judged | None:
    """The PGD of one of the columns, such as pgd10_targeted."""
    count, _, mode = name.removeprefix("pgd").partition("_")
    wanted = int(count), mode == "targeted"

    def fits(one: Judged) -> bool:
        return one.name == "pgd" and (one.fields.get("steps"), bool(one.fields.get("targeted"))) == wanted

    return next(iter(dossier.under(threat, fits)), None)
