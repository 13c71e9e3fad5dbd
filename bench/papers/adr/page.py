"""ADR on trial: which of its numbers survive a full evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.core.registry import pages
from bench.papers import page_cells
from bench.papers import published as numbers
from bench.papers.adr.systems import PAPER, chosen, cut, data, is_default, is_multi_targeted, is_non_targeted, system
from bench.papers.beside import fraction
from bench.papers.claims import NOT_RUN, Claim, ClaimResult, ModelUnderThreat, compared, level, side, under_threats
from bench.papers.page_templates import gains
from bench.papers.page_templates import page as page_of
from bench.papers.systems import System, defense
from bench.papers.verdict_tables import table as verdicts
from bench.report.measures import Outcome
from bench.report.model_runs import Dossier, Judged, dossiers, worst
from bench.report.render import markdown
from bench.store.runs import Run

_MODES = {"non-targeted": "PGD", "multiple-targeted": "multiple-targeted PGD"}
_ORDER = ("Natural", "AT", "TRADES", "ADV", "ADR+LC", "ADR+LC/GB", "ADR-ADV", "ADR-TRADES")


CLAIMS = (
    Claim("ADR-ADV is more robust than ADV", side("ADR-ADV"), side("ADV")),
    Claim("ADR-ADV is more robust than adversarial training", side("ADR-ADV"), side("AT")),
    Claim("ADR-TRADES is more robust than TRADES", side("ADR-TRADES"), side("TRADES")),
    Claim("local compactness raises robustness", side("ADR+LC"), side("ADV")),
    Claim("smoothness adds to both compactnesses", side("ADR-ADV"), side("ADR+LC/GB")),
)


@dataclass(frozen=True)
class UnderPgd(ModelUnderThreat):
    """A model under one threat, whose PGD is the paper's in one of its two modes: `steps`, or 100 if they were run."""

    mode: str = "non-targeted"
    steps: int | None = None

    def wanted(self, judged: Judged) -> bool:
        """Whether an attack is that PGD."""
        of_mode = is_non_targeted("PGD") if self.mode == "non-targeted" else is_multi_targeted("PGD")
        return of_mode(judged) and self.steps in (None, judged.fields.get("steps"))

    @property
    def steps_met(self) -> set[int | None]:
        """The numbers of steps that the model met it with."""
        return {judged.fields.get("steps") for judged in self.dossier.under(self.threat, self.wanted)}

    @property
    def pgd(self) -> Outcome | None:
        """PGD's outcome in that mode."""
        judged = chosen(self.dossier, self.threat, self.wanted)
        return judged.outcome if judged else None


@pages.register("adr")
def page(runs: Sequence[Run], published: pd.DataFrame) -> str:
    """ADR's claims and models under plain, multiple-targeted and adaptive attacks, with verdicts."""
    plain = _models(runs)
    shown = {mode: [replace(model, mode=mode) for model in plain] for mode in _MODES}
    printed = {mode: _printed(published, mode) for mode in _MODES}
    names = list(
        dict.fromkeys([*(row.data for row in printed["non-targeted"]), *(model.system.data for model in plain)])
    )
    return page_of(
        "adr",
        gains=[gains(_gains(names, shown[mode], printed[mode]), attack) for mode, attack in _MODES.items()],
        printed=_levels(shown, printed),
        models=page_cells.models(names, plain, _model),
        attacks=page_cells.attacks(plain),
    )


def _gains(names: Sequence[str], shown: Sequence[UnderPgd], printed: Mapping[System, float]) -> list[ClaimResult]:
    at_default = [model for model in shown if is_default(model.dossier.record)]
    pairs = [(claim, name, _matched(claim, name, at_default)) for name in names for claim in CLAIMS]
    return [compared(claim, name, both, printed) for claim, name, both in pairs]


def _matched(claim: Claim, name: str, shown: Sequence[UnderPgd]) -> list[UnderPgd]:
    """The models of a claim's two sides on a data set, under PGD of as many steps: the most that both have met."""
    sides = [[model for model in shown if model.system == System(name, *side)] for side in (claim.better, claim.other)]
    met = [{steps for model in models for steps in model.steps_met} for models in sides]
    steps = max((count for count in met[0] & met[1] if count), default=None)
    return [replace(model, steps=steps) for models in sides for model in models]


def _models(runs: Sequence[Run]) -> list[UnderPgd]:
    """ADR's models, and natural, adversarial training and TRADES of the same data sets and nets for comparison."""
    known = dossiers(runs)
    ours = {_family(dossier) for dossier in known if system(dossier.record)}
    shown = []
    for dossier in known:
        name = system(dossier.record) or defense(dossier.record)
        if name not in _ORDER and not system(dossier.record):
            continue
        if _family(dossier) in ours:
            models = under_threats(dossier, System(data(dossier.record), name))
            shown += [UnderPgd(model.dossier, model.threat, model.system) for model in models]
    return sorted(shown, key=lambda model: (model.system.data, _rank(model.system.defense), model.dossier.model))


def _family(dossier: Dossier) -> tuple[object, object]:
    return dossier.record.data_sha256, dossier.record.arch


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _printed(published: pd.DataFrame, mode: str) -> dict[System, float]:
    """The accuracies of table 4 under PGD in one mode."""
    lines = numbers.results(published, PAPER, "4").to_dict("records")
    return {
        System(line["dataset"], line["defense"]): fraction(line)
        for line in lines
        if line["attack"] == "PGD" and line["params"]["mode"] == mode
    }


def _levels(shown: Mapping[str, Sequence[UnderPgd]], printed: Mapping[str, Mapping[System, float]]) -> str:
    results = []
    for mode, known in printed.items():
        for model in shown[mode]:
            if model.system in known and is_default(model.dossier.record):
                text = f"`{model.dossier.model}` ({model.system.defense}) under {mode} PGD"
                results.append(replace(level(model, known[model.system], "PGD", model.pgd), claim=text))
    return markdown(verdicts(results, "ours")) if results else f"No model of the paper's data: {NOT_RUN}.\n"


def _model(model: UnderPgd) -> dict[str, str]:
    """A row of a data set's table."""
    dossier = model.dossier
    ways = {name: chosen(dossier, model.threat, is_non_targeted(name)) for name in ("PGD", "BIM", "MIM")}
    ways |= {f"{name} multiple-targeted": chosen(dossier, model.threat, is_multi_targeted(name)) for name in ways}
    outcomes: dict[str, Outcome | None] = {name: judged.outcome if judged else None for name, judged in ways.items()}
    outcomes["adr"] = worst(dossier.under(model.threat, lambda judged: judged.name == "adr"))
    outcomes |= {"adaptive": dossier.adaptive(model.threat), **page_cells.independent(model), "worst": model.worst}
    pgd = outcomes["PGD"]
    n = len(pgd.images) if pgd else 0
    probed = dossier.probe("embedding")
    clean = None if probed is None else probed[probed["attack"] == "clean"]["entropy"]
    return {
        "model": f"`{dossier.model}`",
        "defense": model.system.defense,
        "arch": dossier.record.arch,
        "cut": cut(dossier.record) if system(dossier.record) else "–",
        "threat": page_cells.threat(model),
        "n": str(n),
        "clean": page_cells.clean(pgd),
        **{name: page_cells.cell(outcome, n) for name, outcome in outcomes.items()},
        "zero gradients": page_cells.zero_gradients(dossier),
        "entropy": NOT_RUN if clean is None else f"{float(clean.mean()):.3f}",
    }
