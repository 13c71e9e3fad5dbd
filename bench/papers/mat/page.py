"""MAT on trial: which of its numbers survive a full evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import pages
from bench.papers import page_cells
from bench.papers.beside import fraction
from bench.papers.claims import (
    NOT_RUN,
    Claim,
    ClaimResult,
    ModelUnderThreat,
    compared,
    level,
    percent,
    side,
    under_threats,
)
from bench.papers.mat.systems import DEFENSES, printed, printed_pgd, system
from bench.papers.page_templates import gains
from bench.papers.page_templates import page as page_of
from bench.papers.systems import System
from bench.papers.verdict_tables import table as verdicts
from bench.report.measures import Outcome
from bench.report.model_runs import Threat, dossiers
from bench.report.render import markdown
from bench.store.runs import Run

_MAT, _SO, _BIBO, _PLAIN = (side("MAT", so, bibo) for so, bibo in ("OO", "OX", "XO", "XX"))
CLAIMS = (
    Claim("MAT is more robust than TRADES", _MAT, side("TRADES", "-", "O")),
    Claim("MAT is more robust than adversarial training", _MAT, side("AT", "-", "-")),
    Claim("SO raises robustness", _SO, _PLAIN),
    Claim("SO adds to BIBO", _MAT, _BIBO),
    Claim("BIBO raises robustness", _BIBO, _PLAIN),
    Claim("BIBO adds to SO", _MAT, _SO),
)
_OBJECTIVES = {"MAT": "mat", "TRADES": "kl"}
"""The attack on a defense's training loss, which the paper calls adaptive."""


@pages.register("mat")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """MAT's claims and models under plain, adaptive and black-box attacks, with verdicts."""
    shown = models(runs)
    numbers = _numbers(published, "2", "PGD")
    names = list(dict.fromkeys([*(row.data for row in numbers), *(model.system.data for model in shown)]))
    results = [compared(claim, name, shown, numbers) for name in names for claim in CLAIMS]
    own = [model for model in shown if model.is_own]
    return page_of(
        "mat",
        gains=[gains(results, "PGD")],
        printed=_levels(own, numbers, _numbers(published, "4", "Adaptive-PGD")),
        models=page_cells.models(names, shown, lambda model: _model(model, numbers)),
        attacks=page_cells.attacks(shown),
    )


def models(runs: Sequence[Run]) -> list[ModelUnderThreat]:
    """The paper's systems under every threat for which PGD was run, in the order of the tables."""
    here = [
        model
        for dossier in dossiers(runs)
        if system(dossier).defense in DEFENSES
        for model in under_threats(dossier, system(dossier))
    ]
    return sorted(here, key=_place)


def _place(model: ModelUnderThreat) -> tuple[object, ...]:
    data, defense, variant = model.system
    return data, DEFENSES.index(defense), *(switch != "X" for switch in variant), model.dossier.model


def _numbers(published: pd.DataFrame, table: str, attack: str) -> dict[System, float]:
    return {row: fraction(line) for row, line in printed(published, table) if line["attack"] == attack}


def _levels(shown: Sequence[ModelUnderThreat], plain: Mapping[System, float], adaptive: Mapping[System, float]) -> str:
    results: list[ClaimResult] = [
        level(model, plain[model.system], "PGD", _printed_pgd(model)) for model in shown if model.system in plain
    ]
    theirs = "the paper's adaptive attack"
    results += [
        level(model, adaptive[model.system], theirs, _objective(model)) for model in shown if model.system in adaptive
    ]
    lines = [_mmc(model) for model in shown if model.system.defense == "MMC"]
    table = markdown(verdicts(results, "ours")) if results else f"No model of the paper's data: {NOT_RUN}.\n"
    return "\n".join([table, *(lines or [f"MMC falls below 0.5 % under an adaptive attack: {NOT_RUN}."]), ""])


def _printed_pgd(model: ModelUnderThreat) -> Outcome | None:
    judged = printed_pgd(model.dossier, model.threat)
    return judged.outcome if judged else None


def _objective(model: ModelUnderThreat) -> Outcome | None:
    """The outcome of the paper's adaptive attack: on MAT's loss, or on TRADES'."""
    name = _OBJECTIVES.get(model.system.defense, "")
    attacks = model.dossier.under(model.threat, lambda judged: judged.name == name)
    return attacks[0].outcome if attacks else None


def _mmc(model: ModelUnderThreat) -> str:
    adaptive = model.dossier.adaptive(model.threat)
    if adaptive is None:
        return f"MMC falls below 0.5 % under an adaptive attack: {NOT_RUN} on {model.system.data}."
    low, high = (adaptive.numbers()[end] for end in ("ci_low", "ci_high"))
    verdict = "holds" if high < 0.005 else "does not hold" if low >= 0.005 else "is not contradicted"
    said = f"{percent(adaptive)} on {model.system.data}; it {verdict}"
    return f"MMC falls below 0.5 % under an adaptive attack: {said}."


def _model(model: ModelUnderThreat, numbers: Mapping[System, float]) -> dict[str, str]:
    """A row of a data set's table."""
    dossier, pgd = model.dossier, model.pgd
    published = numbers.get(model.system) if model.is_own else None
    n = len(pgd.images) if pgd else 0
    outcomes = {
        "PGD": pgd,
        "adaptive": dossier.adaptive(model.threat),
        **page_cells.independent(model),
        "worst": model.worst,
    }
    return {
        "model": f"`{dossier.model}`",
        "defense": model.system.defense,
        **dict(zip(("SO", "BIBO"), model.system.variant, strict=True)),
        "threat": page_cells.threat(model),
        "n": str(n),
        "clean": page_cells.clean(pgd),
        "published PGD": "–" if published is None else f"{100 * published:.2f}",
        **{name: page_cells.cell(outcome, n) for name, outcome in outcomes.items()},
        **_probed(model),
    }


def _meets(line: Mapping[Any, Any], threat: Threat) -> bool:
    """Whether a probe's line is about a threat; probes write eps with six digits."""
    return line["norm"] == threat[0] and math.isclose(line["eps"], threat[1], rel_tol=1e-5)


def _probed(model: ModelUnderThreat) -> dict[str, str]:
    """Zero gradients, what rescaling does to PGD under this threat, and the feature norm."""
    gradients, rescaled = model.dossier.probe("gradients"), model.dossier.probe("rescaled")
    zero = page_cells.zero_gradients(model.dossier)
    cells = {"zero gradients": zero, "rescaled PGD": NOT_RUN, "feature norm": NOT_RUN}
    if gradients is not None:
        lengths = gradients["feature_norm"].dropna()
        cells["feature norm"] = f"{float(lengths.median()):.3g}" if len(lengths) else "–"
    lines = [] if rescaled is None else rescaled.to_dict("records")
    if by := {str(line["temperature"]): line for line in lines if _meets(line, model.threat)}:
        least: Any = min(by.values(), key=lambda line: line["robust"])
        before = f"{100 * by['1']['robust_accuracy']:.1f}" if "1" in by else "?"
        after = f"{100 * least['robust_accuracy']:.1f}"
        cells["rescaled PGD"] = f"{before} → {after} (over {least['temperature']}, n = {least['n']})"
    return cells
