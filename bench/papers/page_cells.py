"""What the tables of several papers' pages say of a model: its accuracies, its gradients, what was run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.papers.claims import NOT_RUN, Exhibit, share
from bench.report import measures
from bench.report.model_runs import AUTOATTACK, GRADIENT_FREE, Dossier, worst


def cell(outcome: measures.Outcome | None, n: int) -> str:
    """An accuracy with its limits, and its n where that is not the row's."""
    seen = n if outcome is None else len(outcome.images)
    return share(outcome) if seen == n else f"{share(outcome)}, n = {seen}"


def threat(one: Exhibit) -> str:
    """Norm and eps, as it was written."""
    norm, eps = one.threat
    known = {value: text for run in one.dossier.runs for value, text in measures.budgets(run.record).items()}
    return f"{norm} {known.get(eps, f'{eps:.6g}')}"


def independent(one: Exhibit) -> dict[str, measures.Outcome | None]:
    """What attacks left that know nothing of the defense: an ensemble, without gradients, from another model."""
    dossier = one.dossier
    return {
        "AutoAttack": worst(dossier.under(one.threat, lambda judged: judged.name in AUTOATTACK)),
        "gradient-free": worst(dossier.under(one.threat, lambda judged: judged.name in GRADIENT_FREE)),
        "transfer": worst(dossier.under(one.threat, lambda judged: judged.name == "transfer")),
    }


def zero_gradients(dossier: Dossier) -> str:
    """The share of clean images whose cross-entropy gradient is exactly zero, by the probe or as the run saw it."""
    probed = dossier.probe("gradients")
    found = dossier.record.zero_gradients if probed is None else probed["zero"].mean()
    return NOT_RUN if found is None else f"{100 * float(found):.1f} %"


def attacks(shown: Sequence[Exhibit]) -> str:
    """A line a model: every attack with the images it met."""
    lines = []
    for one in shown:
        names = [f"`{judged.outcome.attack}` ({judged.n})" for judged in one.dossier.under(one.threat)]
        lines.append(f"- `{one.dossier.model}`, {threat(one)}: {', '.join(dict.fromkeys(names))}")
    return "\n".join(lines) + "\n" if lines else f"Nothing: {NOT_RUN}.\n"
