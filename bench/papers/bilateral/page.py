"""Bilateral adversarial training on trial: which of its numbers survive a full evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.core.registry import pages
from bench.papers import page_cells
from bench.papers.beside import fraction
from bench.papers.bilateral.systems import BASELINES, is_shown, kind, named, pgd, printed
from bench.papers.claims import (
    NOT_RUN,
    Claim,
    ModelUnderThreat,
    compared,
    difference,
    level,
    percent,
    points,
    side,
    under_threats,
)
from bench.papers.page_templates import gains
from bench.papers.page_templates import page as page_of
from bench.papers.systems import System
from bench.papers.verdict_tables import table as verdicts
from bench.report.measures import Outcome
from bench.report.model_runs import AUTOATTACK, Dossier, dossiers, worst
from bench.report.render import markdown
from bench.store.runs import Run

CLAIMS = (
    Claim("R-MC-LA is more robust than adversarial training", side("R-MC-LA"), side("AT")),
    Claim("R-MC-LA+, eps 4/255, is more robust than TRADES", side("R-MC-LA+ (eps 4/255)"), side("TRADES")),
    Claim("R-MC-LA is more robust than TRADES", side("R-MC-LA"), side("TRADES")),
    Claim("adversarial labels raise robustness", side("R-MC-LA"), side("R-MC")),
    Claim("the main labels are better than the supplement's", side("R-MC-LA"), side("R-MC-LA (sup)")),
    Claim("the longer schedule raises robustness", side("R-MC-LA+"), side("R-MC-LA")),
    Claim("labels over nine classes raise robustness", side("R-MC-LA9"), side("R-MC-LA")),
    Claim("the most confusing class is a better target than a random one", side("R-MC-LA"), side("R-RAND-LA")),
    Claim("the nearest class is a better target than the most confusing one", side("R-MOSA-LA"), side("R-MC-LA")),
    Claim("more training images raise robustness", side("R-MC-LA"), side("R-MC-LA (500 a class)")),
)
CLEAN, REPORTED, AUTO = 0.928, 0.614, 0.2935
"""R-MC-LA+ (eps 4/255): clean and CE1000 as printed, and what AutoAttack leaves of the authors' weights at 8/255."""


@pages.register("bilateral")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """R-MC-LA's claims and models under plain, adaptive and black-box attacks, and the gap to AutoAttack."""
    shown, numbers = _models(runs), _numbers(published)
    names = list(dict.fromkeys([*(row.data for row in numbers), *(model.system.data for model in shown)]))
    results = [compared(claim, name, shown, numbers) for name in names for claim in CLAIMS]
    told = [result for result in results if result.verdict != NOT_RUN or result.published != "–"]
    levels = [level(model, numbers[model.system], "PGD", model.pgd) for model in shown if model.system in numbers]
    none = f"No model of the paper's data: {NOT_RUN}.\n"
    return page_of(
        "bilateral",
        gains=[gains(told, "PGD")],
        printed=markdown(verdicts(levels, "ours")) if levels else none,
        gaps=markdown(pd.DataFrame(_gaps(shown))),
        models=page_cells.models(names, shown, _model),
        attacks=page_cells.attacks(shown),
    )


def _models(runs: Sequence[Run]) -> list[ModelUnderThreat]:
    """The paper's models; natural, AT and TRADES of the same data and net under the threats these met; with PGD."""
    known = [(dossier, kind(dossier)) for dossier in dossiers(runs)]
    papers = [dossier for dossier, what in known if is_shown(what) and what.defense not in BASELINES]
    ours = {(_family(dossier), threat) for dossier in papers for threat in dossier.threats}
    shown = [
        model
        for dossier, what in known
        if is_shown(what)
        for model in under_threats(dossier, System(what.data, what.name))
        if (_family(dossier), model.threat) in ours
    ]
    return sorted(shown, key=_place)


def _place(model: ModelUnderThreat) -> tuple[object, ...]:
    return model.system.data, _rank(model.system.defense), model.system.defense, model.dossier.model


def _family(dossier: Dossier) -> tuple[object, object]:
    return dossier.record.data_sha256, dossier.record.arch


def _rank(name: str) -> int:
    return BASELINES.index(name) if name in BASELINES else len(BASELINES)


def _numbers(published: pd.DataFrame) -> dict[System, float]:
    """Every printed accuracy under the longest PGD of a table, as the page names the system."""
    numbers: dict[System, float] = {}
    for table, attack in (("1", "CE1000"), ("5", "CE100"), ("2", "CE100"), ("3", "CE100")):
        for system, line in printed(published, table):
            if line["attack"] == attack:
                numbers.setdefault(System(system.data, system.name), fraction(line))
    return numbers


def _gaps(shown: Sequence[ModelUnderThreat]) -> list[dict[str, str]]:
    """A row a model: accuracy under PGD, under AutoAttack and under the worst attack, and what lies between."""
    first = {
        "model": "authors' R-MC-LA+, eps 4/255",
        "data": "CIFAR10",
        "clean": f"{100 * CLEAN:.1f}",
        "PGD": f"{100 * REPORTED:.1f}",
        "AutoAttack": f"{100 * AUTO:.2f}",
        "gap to AutoAttack": points(AUTO - REPORTED),
        "worst": "–",
        "gap to worst": "–",
    }
    return [first, *map(_gap, shown)]


def _gap(model: ModelUnderThreat) -> dict[str, str]:
    auto = worst(model.dossier.under(model.threat, lambda judged: judged.name in AUTOATTACK))
    return {
        "model": f"`{model.dossier.model}`",
        "data": model.system.data,
        "clean": page_cells.clean(model.pgd),
        "PGD": percent(model.pgd),
        "AutoAttack": percent(auto),
        "gap to AutoAttack": _between(model.pgd, auto),
        "worst": percent(model.worst),
        "gap to worst": _between(model.pgd, model.worst),
    }


def _between(plain: Outcome | None, full: Outcome | None) -> str:
    """Accuracy under one attack minus that under PGD, with limits, on the images of both."""
    gap = difference(full, plain)
    if gap is None or not gap.n:
        return NOT_RUN
    return f"{points(gap.value)} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def _model(model: ModelUnderThreat) -> dict[str, str]:
    """A row of a data set's table."""
    dossier, where = model.dossier, model.threat
    ways = {"CE100": pgd(dossier, where, 100), "CW100": named(dossier, where, "margin", steps=100)}
    ways |= {name: named(dossier, where, name) for name in ("fgsm", "bilateral", "multi_margin")}
    outcomes: dict[str, Outcome | None] = {"PGD": model.pgd}
    outcomes |= {name: judged.outcome if judged else None for name, judged in ways.items()}
    outcomes |= {"adaptive": dossier.adaptive(where), **page_cells.independent(model), "worst": model.worst}
    n = len(model.pgd.images) if model.pgd is not None else 0
    return {
        "model": f"`{dossier.model}`",
        "defense": model.system.defense,
        "threat": page_cells.threat(model),
        "n": str(n),
        "clean": page_cells.clean(model.pgd),
        **{name: page_cells.cell(outcome, n) for name, outcome in outcomes.items()},
        "zero gradients": page_cells.zero_gradients(dossier),
    }
