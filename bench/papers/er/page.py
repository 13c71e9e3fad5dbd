"""The ER-Classifier and the detectors on trial: which of their claims survive adaptive attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import pages, tables
from bench.papers import page_cells
from bench.papers.claims import NOT_RUN, Claim, Exhibit, compared, in_short, row
from bench.papers.claims import table as verdicts
from bench.papers.er.systems import MADRY, data, detector, embedding, has_own_embedding, settings, system
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
    Claim("ER-Classifier with min-max training is more robust than Madry's", row(_ER_AT), row(MADRY)),
    Claim("the prior adds to min-max training", row(_ER_AT), row(_ECLA_AT)),
    Claim("the prior alone raises robustness", row(_ER), row(_ECLA)),
    Claim("min-max training raises the ER-Classifier's robustness", row(_ER_AT), row(_ER)),
)
_INTRODUCTION = """\
# ER-Classifier and its detector on trial

Li et al. (2021) embed images in a few codes, pull their distribution toward a prior, and train with or without min-max.
The supplement prints no accuracy of its classifiers, only detectors (tables 3 to 6). Here are models trained by this
project's recipes under more attacks, each beside Madry's training of the same net, and detectors under a joint attack
that fools classifier and detector at once. Everything below is made from stored runs (`bench page er`); what was not
run says so. Accuracies are in percent, gains in percentage points, both with 95 % limits.
"""
_RULES = """\
## How the verdicts are reached

- Gains are read as on MAT's page: two models of one architecture under one threat on the same images, McNemar's
  exact p-value, Bonett and Price's limits. A gain *survives* if it counts (p < 0.05) under *worst*, *in part* if its
  limits there lie below PGD's; it *does not survive* if it counts under PGD alone. *latent* pulls the codes onto those
  of another class: with so few codes it is a strong attack.
- A detector is fitted on images with their attacked twins, its threshold set on others, and tested on others again;
  the densities come from training images. *known* is the attack it was fitted on, *joint* PGD on classifier and
  detector with the threshold known, *worst* the worst of the attacks within its budget. *robust* counts an image that
  is right and that no attack broke; *with reject*, right, not rejected when clean, and no broken twin that passes. A
  detector *helps* if the lower limit of robust accuracy with reject under the worst attack is above the upper limit
  of what the worst attack leaves of the classifier alone, *in part* if its limits lie below those under the known
  attack; it *is bypassed* if not, although it seemed to help under the known one. The joint attack stops at the
  threshold, so its AUROC is no lower bound.
- ER1 and ER2 are our reading: encoders trained without and with min-max training, a minus without the prior.
"""


@pages.register("er")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """The ER-Classifier's claims and the detectors', with verdicts."""
    shown = exhibits(runs)
    names = list(dict.fromkeys(["MNIST", "CIFAR10", *(one.row.data for one in shown)]))
    found = [compared(claim, name, shown, {}) for name in names for claim in CLAIMS]
    found.sort(key=lambda one: one.verdict == NOT_RUN)
    sections = [_INTRODUCTION, "## Verdicts\n\n### Gains\n", in_short(found), markdown(verdicts(found, "PGD"))]
    sections += ["### Detectors\n", _detectors(runs)]
    sections += ["### Detectors against high-confidence C&W\n", _printed(runs, published)]
    for name in names:
        here = [one for one in shown if one.row.data == name]
        table = markdown(pd.DataFrame([_model(one) for one in here])) if here else f"{NOT_RUN.capitalize()}.\n"
        sections += [f"## Models on {name}\n", table]
    return "\n".join([*sections, _RULES, "## What was run\n", page_cells.attacks(shown)])


def exhibits(runs: Sequence[Run]) -> list[Exhibit]:
    """The paper's systems under every threat for which PGD was run, in the order of the page.

    Other priors and embedding dimensions stand in the table of models, not for the claims.
    """
    found = []
    for dossier in dossiers(runs):
        name = system(dossier.record)
        for threat in dossier.threats if name else ():
            if name and dossier.pgd(threat) is not None:
                label = name if _is_usual(dossier.record) else f"{name}, {_variant(dossier.record)}"
                found.append(Exhibit(dossier, threat, System(data(dossier.record), *row(label))))
    ranks = {name: rank for rank, name in enumerate(_ORDER)}
    return sorted(found, key=lambda one: (one.row.data, ranks.get(one.row.defense, len(ranks)), one.dossier.model))


def _is_usual(record: ModelRecord) -> bool:
    prior = (settings(record) or {}).get("prior", "gaussian")
    return prior == "gaussian" and has_own_embedding(record)


def _variant(record: ModelRecord) -> str:
    return f"{(settings(record) or {}).get('prior', 'gaussian')}, n_z = {embedding(record)}"


def _model(one: Exhibit) -> dict[str, str]:
    """A row of a data set's table."""
    dossier, threat, pgd = one.dossier, one.threat, one.pgd
    n = len(pgd.images) if pgd else 0
    latent = worst(dossier.under(threat, lambda judged: judged.name == "latent"))
    kinds = {"PGD": pgd, "latent": latent, "adaptive": dossier.adaptive(threat), **page_cells.independent(one)}
    return {
        "model": f"`{dossier.model}`",
        "defense": one.row.defense,
        "n_z": str(embedding(dossier.record) or "–"),
        "threat": page_cells.threat(one),
        "n": str(n),
        "clean": f"{100 * float(pgd.images['right'].mean()):.1f}" if pgd else NOT_RUN,
        **{name: page_cells.cell(outcome, n) for name, outcome in (kinds | {"worst": one.worst}).items()},
        "zero gradients": page_cells.zero_gradients(dossier),
    }


def _detectors(runs: Sequence[Run]) -> str:
    rows = [row for run in runs if isinstance(run, detections.Detection) for row in _detector(run)]
    return markdown(pd.DataFrame(rows)) if rows else f"{NOT_RUN.capitalize()}: `bench detect` makes them.\n"


def _detector(run: detections.Detection) -> list[dict[str, str]]:
    """A row an attack that the detector was fitted on: the attack it knows, and the joint one."""
    rows = []
    for fit_attack, found in detection_measures.summary(run).groupby("fit_attack", sort=False):
        lines = {str(line["attack"]): line for line in found.to_dict("records")}
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
