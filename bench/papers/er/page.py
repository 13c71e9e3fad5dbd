"""The ER-Classifier and the detectors on trial: which of their claims survive adaptive attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import pages, tables
from bench.papers import page_cells
from bench.papers.claims import NOT_RUN, Claim, ModelUnderThreat, compared, side, under_threats
from bench.papers.er.systems import MADRY, data, detector, embedding, has_own_embedding, settings, system
from bench.papers.page_templates import gains
from bench.papers.page_templates import page as page_of
from bench.papers.systems import System
from bench.report import detection_measures, measures, significance
from bench.report.model_runs import dossiers, worst
from bench.report.render import markdown
from bench.store import detections
from bench.store.record import ModelRecord
from bench.store.runs import Run

_ER, _ER_AT, _ECLA, _ECLA_AT = "ER-Classifier", "ER-Classifier, min-max", "E-CLA", "E-CLA, min-max"
_ORDER = (_ECLA, _ER, MADRY, _ECLA_AT, _ER_AT)


CLAIMS = (
    Claim("ER-Classifier with min-max training is more robust than Madry's", side(_ER_AT), side(MADRY)),
    Claim("the prior adds to min-max training", side(_ER_AT), side(_ECLA_AT)),
    Claim("the prior alone raises robustness", side(_ER), side(_ECLA)),
    Claim("min-max training raises the ER-Classifier's robustness", side(_ER_AT), side(_ER)),
)


@pages.register("er")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """The ER-Classifier's claims and the detectors', with verdicts."""
    shown = models(runs)
    names = list(dict.fromkeys(["MNIST", "CIFAR10", *(model.system.data for model in shown)]))
    results = [compared(claim, name, shown, {}) for name in names for claim in CLAIMS]
    results.sort(key=lambda result: result.verdict == NOT_RUN)
    return page_of(
        "er",
        gains=[gains(results, "PGD")],
        detectors=_detectors(runs),
        printed=_printed(runs, published),
        models=page_cells.models(names, shown, _model),
        attacks=page_cells.attacks(shown),
    )


def models(runs: Sequence[Run]) -> list[ModelUnderThreat]:
    """The paper's systems under every threat for which PGD was run, in the order of the page.

    Other priors and embedding dimensions stand in the table of models, not for the claims.
    """
    shown = []
    for dossier in dossiers(runs):
        name = system(dossier.record)
        if name is not None:
            label = name if _is_usual(dossier.record) else f"{name}, {_variant(dossier.record)}"
            shown += under_threats(dossier, System(data(dossier.record), label))
    ranks = {name: rank for rank, name in enumerate(_ORDER)}
    return sorted(
        shown,
        key=lambda model: (model.system.data, ranks.get(model.system.defense, len(ranks)), model.dossier.model),
    )


def _is_usual(record: ModelRecord) -> bool:
    prior = (settings(record) or {}).get("prior", "gaussian")
    return prior == "gaussian" and has_own_embedding(record)


def _variant(record: ModelRecord) -> str:
    return f"{(settings(record) or {}).get('prior', 'gaussian')}, n_z = {embedding(record)}"


def _model(model: ModelUnderThreat) -> dict[str, str]:
    """A row of a data set's table."""
    dossier, threat, pgd = model.dossier, model.threat, model.pgd
    n = len(pgd.images) if pgd else 0
    latent = worst(dossier.under(threat, lambda judged: judged.name == "latent"))
    outcomes = {"PGD": pgd, "latent": latent, "adaptive": dossier.adaptive(threat)}
    outcomes |= {**page_cells.independent(model), "worst": model.worst}
    return {
        "model": f"`{dossier.model}`",
        "defense": model.system.defense,
        "n_z": str(embedding(dossier.record) or "–"),
        "threat": page_cells.threat(model),
        "n": str(n),
        "clean": page_cells.clean(pgd),
        **{name: page_cells.cell(outcome, n) for name, outcome in outcomes.items()},
        "zero gradients": page_cells.zero_gradients(dossier),
    }


def _detectors(runs: Sequence[Run]) -> str:
    rows = [row for run in runs if isinstance(run, detections.Detection) for row in _detector(run)]
    return markdown(pd.DataFrame(rows)) if rows else f"{NOT_RUN.capitalize()}: `bench detect` makes them.\n"


def _detector(run: detections.Detection) -> list[dict[str, str]]:
    """A row an attack that the detector was fitted on: the attack it knows, and the joint one."""
    rows = []
    for fit_attack, met in detection_measures.summary(run).groupby("fit_attack", sort=False):
        lines = {str(line["attack"]): line for line in met.to_dict("records")}
        known, joint = lines.get(str(fit_attack)), lines.get(detections.JOINT)
        if known is None or joint is None:
            continue
        worst = lines.get(measures.WORST, joint)
        rows.append(
            {
                "data": data(run.record),
                "model": f"`{run.record.model}`",
                "detector": detector(run.record.detector),
                "fitted on": f"`{fit_attack}`",
                "n": str(known["n"]),
                "AUROC, known": f"{known['auroc']:.3f}",
                "TPR at 5 % FPR": f"{100 * known['tpr_rate']:.1f}",
                "robust, known": f"{100 * known['robust_accuracy']:.1f}",
                "with reject, known": _limited(known),
                "AUROC, joint": f"{joint['auroc']:.3f}",
                "with reject, joint": _limited(joint),
                "without, worst": f"{100 * worst['robust_accuracy']:.1f}",
                "with reject, worst": _limited(worst),
                "verdict": f"**{verdict(known, worst)}**",
            }
        )
    return rows


def _limited(line: Mapping[Any, Any]) -> str:
    middle, low, high = (100 * line[f"robust_reject_accuracy{end}"] for end in ("", "_low", "_high"))
    return f"{middle:.1f} ({low:.1f}–{high:.1f})"


def verdict(known: Mapping[Any, Any], worst: Mapping[Any, Any]) -> str:
    """The rule for a detector, from its numbers under the attack it knows and under the worst within the budget."""
    name, n = "robust_reject_accuracy", int(worst["n"])
    bare = worst["robust_accuracy"]
    gain, (_, high) = 100 * (worst[name] - bare), significance.wilson(round(bare * n), n)
    if worst[f"{name}_low"] > high:
        part = worst[f"{name}_high"] < known[f"{name}_low"]
        return f"helps{' in part' if part else ''}, {gain:+.1f} points"
    if known[f"{name}_low"] > known["robust_accuracy"]:
        return f"is bypassed, {gain:+.1f} of {100 * (known[name] - known['robust_accuracy']):+.1f} points"
    return "does not help, under the known attack either"


def _printed(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """Tables 3 to 5 in short: each detector against high-confidence C&W, measured and published."""
    rows = []
    for number, fitted_on in (("3", "FGSM"), ("4", "PGD"), ("5", "C&W")):
        for line in tables[f"er/{number}"](runs, published).to_dict("records"):
            cells = {name: _beside(line, f"{name}_accuracy") for name in ("nadv", "com")}
            rows.append({"data": line["data"], "detector": line["detector"], "fitted on": fitted_on} | cells)
    return markdown(pd.DataFrame(rows).rename(columns={"nadv": "ACC-NADV (published)", "com": "ACC-COM (published)"}))


def _beside(line: Mapping[Any, Any], name: str) -> str:
    measured, printed = ("–" if pd.isna(line[key]) else f"{100 * line[key]:.1f}" for key in (name, f"{name}_published"))
    return f"{measured} ({printed})"
