"""MAT on trial: which of its numbers survive a full evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core.registry import pages
from bench.papers import page_cells
from bench.papers.beside import share as fraction
from bench.papers.claims import NOT_RUN, Claim, Exhibit, compared, exhibits, in_short, level, share
from bench.papers.claims import table as verdicts
from bench.papers.mat.systems import printed, printed_pgd
from bench.papers.systems import DEFENSES, System
from bench.report.measures import Outcome
from bench.report.model_runs import ENOUGH, Threat, dossiers
from bench.report.render import markdown
from bench.store.runs import Run

_MAT, _SO, _BIBO, _PLAIN = ("MAT", "O", "O"), ("MAT", "O", "X"), ("MAT", "X", "O"), ("MAT", "X", "X")
CLAIMS = (
    Claim("MAT is more robust than TRADES", _MAT, ("TRADES", "-", "O")),
    Claim("MAT is more robust than adversarial training", _MAT, ("AT", "-", "-")),
    Claim("SO raises robustness", _SO, _PLAIN),
    Claim("SO adds to BIBO", _MAT, _BIBO),
    Claim("BIBO raises robustness", _BIBO, _PLAIN),
    Claim("BIBO adds to SO", _MAT, _SO),
)
_INTRODUCTION = """\
# MAT on trial

Manifold-Aware Training reports 80.55 % (CIFAR-10) and 99.28 % (MNIST) under PGD, and 53.65 % and 92.66 % under its own
adaptive attack. Here are models trained by this project's recipes (one seed each, on smaller nets and shorter schedules
than the paper's, as `defenses/recipes` says), and public ones, under more attacks. A gain is judged between models of
one budget; a printed accuracy that is *not reproduced* says little of the paper. Everything
below is made from stored runs (`bench page mat`); what was not run says so. Accuracies are in percent, gains in
percentage points, both with 95 % limits.
"""
_RULES = f"""\
## How the verdicts are reached

- *PGD* is projected gradient descent on cross-entropy, the attack of the paper's tables. *adaptive* is the per-image
  worst of all adaptive attacks that the model's structure allows. *worst* is the per-image worst of every attack in
  the norm, over the images that all of those on at least {ENOUGH} images, or on all, have met; a slow attack on fewer
  only adds what it broke. In a gain it is over the attacks that both models met and each one's own adaptive ones. An
  n beside a number says that it is over other images than the row's.
- A gain is the difference of two models of one architecture under one threat on the same images. Its p-value is
  McNemar's exact one, its limits Bonett and Price's. It counts if p < 0.05. It *survives* if it counts under *worst*,
  *in part* if its limits there lie below PGD's; it *does not survive* if it counts under PGD alone, and is *reversed*
  if a loss counts under *worst*; *not shown* is what counts under neither. *of* names the two models.
- A printed accuracy is *reproduced* if the upper limit of ours under the same attack (Wilson's) comes within a point of
  it, *survives* if that of *worst* does, and is *not reproduced* otherwise: a shorter training on a smaller net may be
  why, and a number that is low as printed survives easily. Its PGD is taken to have 40 steps of 0.01 on MNIST and 20
  of 0.003 on CIFAR-10, as TRADES' scripts have; the paper does not say. Its adaptive attack climbs the training loss
  (here `mat`, `kl`).
- *zero gradients*: the share of clean images whose cross-entropy gradient is exactly zero in every pixel. *rescaled
  PGD*: PGD as it is → on logits divided by a constant or by the feature norm, whichever leaves least, on the same
  images; dividing changes no prediction. *feature norm*: its median over clean images.
"""


@pages.register("mat")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """MAT's claims and models under plain, adaptive and black-box attacks, with verdicts."""
    shown = sorted((one for one in exhibits(dossiers(runs)) if one.row.defense in DEFENSES), key=_place)
    numbers = _numbers(published, "2", "PGD")
    data = list(dict.fromkeys([*(row.data for row in numbers), *(one.row.data for one in shown)]))
    gains = [compared(claim, name, shown, numbers) for name in data for claim in CLAIMS]
    sections = [_INTRODUCTION, "## Verdicts\n\n### Gains\n", in_short(gains), markdown(verdicts(gains, "PGD"))]
    own = [one for one in shown if one.is_own]
    sections += ["### Printed accuracies\n", _levels(own, numbers, _numbers(published, "4", "Adaptive-PGD"))]
    for name in data:
        here = [one for one in shown if one.row.data == name]
        sections += [f"## Models on {name}\n", _models(here, numbers) if here else f"{NOT_RUN.capitalize()}.\n"]
    return "\n".join([*sections, _RULES, "## What was run\n", page_cells.attacks(shown)])


def _numbers(published: pd.DataFrame, table: str, attack: str) -> dict[System, float]:
    return {row: fraction(line) for row, line in printed(published, table) if line["attack"] == attack}


def _levels(shown: Sequence[Exhibit], plain: Mapping[System, float], adaptive: Mapping[System, float]) -> str:
    found = [level(one, plain[one.row], "PGD", _as_printed(one)) for one in shown if one.row in plain]
    theirs = "the paper's adaptive attack"
    found += [level(one, adaptive[one.row], theirs, one.own) for one in shown if one.row in adaptive]
    lines = [_mmc(one) for one in shown if one.row.defense == "MMC"]
    table = markdown(verdicts(found, "ours")) if found else f"No model of the paper's data: {NOT_RUN}.\n"
    return "\n".join([table, *(lines or [f"MMC falls below 0.5 % under an adaptive attack: {NOT_RUN}."]), ""])


def _as_printed(one: Exhibit) -> Outcome | None:
    pgd = printed_pgd(one.dossier, one.threat)
    return pgd.outcome if pgd else None


def _mmc(one: Exhibit) -> str:
    found = one.dossier.adaptive(one.threat)
    if found is None:
        return f"MMC falls below 0.5 % under an adaptive attack: {NOT_RUN} on {one.row.data}."
    low, high = (found.numbers()[end] for end in ("ci_low", "ci_high"))
    verdict = "holds" if high < 0.005 else "does not hold" if low >= 0.005 else "is not contradicted"
    return f"MMC falls below 0.5 % under an adaptive attack: {share(found)} on {one.row.data}; it {verdict}."


def _place(one: Exhibit) -> tuple[str, int, bool, bool, str]:
    return one.row.data, DEFENSES.index(one.row.defense), one.row.so != "X", one.row.bibo != "X", one.dossier.model


def _models(shown: Sequence[Exhibit], numbers: Mapping[System, float]) -> str:
    return markdown(pd.DataFrame([_model(one, numbers.get(one.row) if one.is_own else None) for one in shown]))


def _model(one: Exhibit, published: float | None) -> dict[str, str]:
    """A row of a data set's table."""
    dossier, pgd = one.dossier, one.pgd
    n = len(pgd.images) if pgd else 0
    found = {
        "PGD": pgd,
        "adaptive": dossier.adaptive(one.threat),
        **page_cells.independent(one),
        "worst": one.worst,
    }
    return {
        "model": f"`{dossier.model}`",
        **dict(zip(("defense", "SO", "BIBO"), one.row[1:], strict=True)),
        "threat": page_cells.threat(one),
        "n": str(n),
        "clean": f"{100 * float(pgd.images['right'].mean()):.1f}" if pgd else NOT_RUN,
        "published PGD": "–" if published is None else f"{100 * published:.2f}",
        **{name: page_cells.cell(outcome, n) for name, outcome in found.items()},
        **_probed(one),
    }


def _meets(line: Mapping[Any, Any], threat: Threat) -> bool:
    """Whether a probe's line is about a threat; probes write eps with six digits."""
    return line["norm"] == threat[0] and math.isclose(line["eps"], threat[1], rel_tol=1e-5)


def _probed(one: Exhibit) -> dict[str, str]:
    """Zero gradients, what rescaling does to PGD under this threat, and the feature norm."""
    gradients, rescaled = one.dossier.probe("gradients"), one.dossier.probe("rescaled")
    cells = {"zero gradients": page_cells.zero_gradients(one.dossier), "rescaled PGD": NOT_RUN, "feature norm": NOT_RUN}
    if gradients is not None:
        lengths = gradients["feature_norm"].dropna()
        cells["feature norm"] = f"{float(lengths.median()):.3g}" if len(lengths) else "–"
    lines = [] if rescaled is None else rescaled.to_dict("records")
    if by := {str(line["temperature"]): line for line in lines if _meets(line, one.threat)}:
        least: Any = min(by.values(), key=lambda line: line["robust"])
        before = f"{100 * by['1']['robust_accuracy']:.1f}" if "1" in by else "?"
        after = f"{100 * least['robust_accuracy']:.1f}"
        cells["rescaled PGD"] = f"{before} → {after} (over {least['temperature']}, n = {least['n']})"
    return cells
