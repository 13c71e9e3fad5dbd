"""ADR on trial: which of its numbers survive a full evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.core.registry import pages
from bench.papers import page_cells
from bench.papers import published as numbers
from bench.papers.adr.systems import PAPER, chosen, cut, data, is_default, is_multi_targeted, is_non_targeted, system
from bench.papers.beside import share
from bench.papers.claims import NOT_RUN, Claim, Exhibit, compared, in_short, level, row
from bench.papers.claims import table as verdicts
from bench.papers.systems import System
from bench.papers.systems import system as other_system
from bench.report.measures import Outcome
from bench.report.model_runs import ENOUGH, Dossier, Judged, dossiers, worst
from bench.report.render import markdown
from bench.store.runs import Run

_MODES = {"non-targeted": "PGD", "multiple-targeted": "multiple-targeted PGD"}
_ORDER = ("Natural", "AT", "TRADES", "ADV", "ADR+LC", "ADR+LC/GB", "ADR-ADV", "ADR-TRADES")


CLAIMS = (
    Claim("ADR-ADV is more robust than ADV", row("ADR-ADV"), row("ADV")),
    Claim("ADR-ADV is more robust than adversarial training", row("ADR-ADV"), row("AT")),
    Claim("ADR-TRADES is more robust than TRADES", row("ADR-TRADES"), row("TRADES")),
    Claim("local compactness raises robustness", row("ADR+LC"), row("ADV")),
    Claim("smoothness adds to both compactnesses", row("ADR-ADV"), row("ADR+LC/GB")),
)
_INTRODUCTION = """\
# ADR on trial

Adversary Divergence Reduction reports, for its standard CNN under 100 steps of PGD, 95.06 % where plain adversarial
training with a clean half (ADV) has 93.13 % on MNIST, and 36.85 % against 32.87 % on CIFAR-10; multiple-targeted, 94.26
against 92.09 % and 22.71 against 18.74 %. Here are models trained by this project's recipes, under more attacks.
Everything below is made from stored runs (`bench page adr`); what was not run says so. Accuracies are in percent, gains
in percentage points, both with 95 % limits.
"""
_RULES = f"""\
## How the verdicts are reached

- *PGD* is projected gradient descent on cross-entropy, 100 steps where they were run (a gain: the most steps that
  both models have met); *multiple-targeted* descends the cross-entropy of every wrong class in turn, and an image is
  robust if it keeps its label against all. *adr* climbs the training loss (with the weights the model was trained
  with), and that without each of its terms. *adaptive* is the per-image worst of all adaptive attacks, `adr`,
  `latent` and `margin` among them. *worst* is the per-image worst of every attack in the norm, over the images that
  all of those on at least {ENOUGH} images, or on all, have met; a slow attack on fewer only adds what it broke. In a
  gain it is over the attacks that both models met and each one's own adaptive ones. An n beside a number says that it
  is over other images than the row's.
- A gain is the difference of two models of one architecture under one threat on the same images, the latent layer after
  the convolutions. Its p-value is McNemar's exact one, its limits Bonett and Price's. It counts if p < 0.05. It
  *survives* if it counts under *worst*, *in part* if its limits there lie below those under the attack named; it *does
  not survive* if it counts under that attack alone.
- A printed accuracy is *reproduced* if the upper limit of ours under the same attack (Wilson's) comes within a point of
  it, and *survives* if that of *worst* does. The nets differ: see `arch`, and the recipes for schedules.
- *zero gradients*: the share of clean images whose cross-entropy gradient is exactly zero in every pixel. *entropy*:
  that of the prediction on clean images, mean, in nats.
"""


@dataclass(frozen=True)
class UnderPgd(Exhibit):
    """A model under one threat, whose PGD is the paper's in one of its two modes: `steps`, or 100 if they were run."""

    mode: str = "non-targeted"
    steps: int | None = None

    def wanted(self, judged: Judged) -> bool:
        """Whether an attack is that PGD."""
        of_mode = is_non_targeted("PGD") if self.mode == "non-targeted" else is_multi_targeted("PGD")
        return of_mode(judged) and self.steps in (None, judged.fields.get("steps"))

    @property
    def pgd(self) -> Outcome | None:
        """PGD's outcome in that mode."""
        found = chosen(self.dossier, self.threat, self.wanted)
        return found.outcome if found else None


@pages.register("adr")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """ADR's claims and models under plain, multiple-targeted and adaptive attacks, with verdicts."""
    plain = _exhibits(runs)
    shown = {mode: [replace(one, mode=mode) for one in plain] for mode in _MODES}
    printed = {mode: _printed(published, mode) for mode in _MODES}
    names = list(dict.fromkeys([*(row.data for row in printed["non-targeted"]), *(one.row.data for one in plain)]))
    sections = [_INTRODUCTION, "## Verdicts\n"]
    for mode, title in _MODES.items():
        at_default = [one for one in shown[mode] if is_default(one.dossier.record)]
        pairs = [(claim, name, _matched(claim, name, at_default)) for name in names for claim in CLAIMS]
        gains = [compared(claim, name, both, printed[mode]) for claim, name, both in pairs]
        sections += [f"### Gains under {title}\n", in_short(gains), markdown(verdicts(gains, title))]
    sections += ["### Printed accuracies\n", _levels(shown, printed)]
    for name in names:
        here = [one for one in plain if one.row.data == name]
        rows = markdown(pd.DataFrame(map(_model, here))) if here else f"{NOT_RUN.capitalize()}.\n"
        sections += [f"## Models on {name}\n", rows]
    return "\n".join([*sections, _RULES, "## What was run\n", page_cells.attacks(plain)])


def _matched(claim: Claim, name: str, shown: Sequence[UnderPgd]) -> list[UnderPgd]:
    """The models of a claim's two sides on a data set, under PGD of as many steps: the most that both have met."""
    sides = [[one for one in shown if one.row == System(name, *row)] for row in (claim.better, claim.other)]
    met = [{x.fields.get("steps") for one in side for x in one.dossier.under(one.threat, one.wanted)} for side in sides]
    steps = max((count for count in met[0] & met[1] if count), default=None)
    return [replace(one, steps=steps) for side in sides for one in side]


def _exhibits(runs: Sequence[Run]) -> list[UnderPgd]:
    """ADR's models, and natural, adversarial training and TRADES of the same data sets and nets for comparison."""
    found = dossiers(runs)
    ours = {_family(one) for one in found if system(one.record)}
    shown = []
    for one in found:
        name = system(one.record) or other_system(one).defense
        if name not in _ORDER and not system(one.record):
            continue
        if _family(one) in ours:
            where = System(data(one.record), *row(name))
            shown += [UnderPgd(one, threat, where) for threat in one.threats if one.pgd(threat) is not None]
    return sorted(shown, key=lambda one: (one.row.data, _rank(one.row.defense), one.dossier.model))


def _family(one: Dossier) -> tuple[object, object]:
    return one.record.data_sha256, one.record.arch


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _printed(published: pd.DataFrame, mode: str) -> dict[System, float]:
    """The accuracies of table 4 under PGD in one mode."""
    lines = numbers.results(published, PAPER, "4").to_dict("records")
    return {
        System(line["dataset"], *row(line["defense"])): share(line)
        for line in lines
        if line["attack"] == "PGD" and line["params"]["mode"] == mode
    }


def _levels(shown: Mapping[str, Sequence[UnderPgd]], printed: Mapping[str, Mapping[System, float]]) -> str:
    found = []
    for mode, known in printed.items():
        for one in shown[mode]:
            if one.row in known and is_default(one.dossier.record):
                text = f"`{one.dossier.model}` ({one.row.defense}) under {mode} PGD"
                found.append(replace(level(one, known[one.row], "PGD", one.pgd), claim=text))
    return markdown(verdicts(found, "ours")) if found else f"No model of the paper's data: {NOT_RUN}.\n"


def _model(one: UnderPgd) -> dict[str, str]:
    """A row of a data set's table."""
    dossier = one.dossier
    ways = {name: chosen(dossier, one.threat, is_non_targeted(name)) for name in ("PGD", "BIM", "MIM")}
    ways |= {f"{name} multiple-targeted": chosen(dossier, one.threat, is_multi_targeted(name)) for name in ways}
    outcomes: dict[str, Outcome | None] = {name: found.outcome if found else None for name, found in ways.items()}
    outcomes["adr"] = worst(dossier.under(one.threat, lambda judged: judged.name == "adr"))
    outcomes |= {"adaptive": dossier.adaptive(one.threat), **page_cells.independent(one), "worst": one.worst}
    pgd = outcomes["PGD"]
    n = len(pgd.images) if pgd else 0
    probed = dossier.probe("embedding")
    clean = None if probed is None else probed[probed["attack"] == "clean"]["entropy"]
    return {
        "model": f"`{dossier.model}`",
        "defense": one.row.defense,
        "arch": dossier.record.arch,
        "cut": cut(dossier.record) if system(dossier.record) else "–",
        "threat": page_cells.threat(one),
        "n": str(n),
        "clean": f"{100 * float(pgd.images['right'].mean()):.1f}" if pgd else NOT_RUN,
        **{name: page_cells.cell(outcome, n) for name, outcome in outcomes.items()},
        "zero gradients": page_cells.zero_gradients(dossier),
        "entropy": NOT_RUN if clean is None else f"{float(clean.mean()):.3f}",
    }
