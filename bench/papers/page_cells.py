"""What the tables of several papers' pages say of a model: its accuracies, its gradients, what was run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pandas as pd

from bench.papers.claims import NOT_RUN, ModelUnderThreat, percent
from bench.report.measures import Outcome, budgets
from bench.report.model_runs import AUTOATTACK, GRADIENT_FREE, Dossier, worst
from bench.report.render import markdown

Model = TypeVar("Model", bound=ModelUnderThreat)


def cell(outcome: Outcome | None, n: int) -> str:
    """An accuracy with its limits, and its n where that is not the row's."""
    seen = n if outcome is None else len(outcome.images)
    return percent(outcome) if seen == n else f"{percent(outcome)}, n = {seen}"


def clean(outcome: Outcome | None) -> str:
    """Accuracy on the clean images that an attack met, in percent."""
    return NOT_RUN if outcome is None else f"{100 * float(outcome.images['right'].mean()):.1f}"


def threat(model: ModelUnderThreat) -> str:
    """Norm and eps, as it was written."""
    norm, eps = model.threat
    known = {value: text for run in model.dossier.runs for value, text in budgets(run.record).items()}
    return f"{norm} {known.get(eps, f'{eps:.6g}')}"


def independent(model: ModelUnderThreat) -> dict[str, Outcome | None]:
    """What attacks left that know nothing of the defense: an ensemble, without gradients, from another model."""
    dossier = model.dossier
    return {
        "AutoAttack": worst(dossier.under(model.threat, lambda judged: judged.name in AUTOATTACK)),
        "gradient-free": worst(dossier.under(model.threat, lambda judged: judged.name in GRADIENT_FREE)),
        "transfer": worst(dossier.under(model.threat, lambda judged: judged.name == "transfer")),
    }


def zero_gradients(dossier: Dossier) -> str:
    """The share of clean images whose cross-entropy gradient is exactly zero, by the probe or as the run saw it."""
    probed = dossier.probe("gradients")
    zero = dossier.record.zero_gradients if probed is None else probed["zero"].mean()
    return NOT_RUN if zero is None else f"{100 * float(zero):.1f} %"


def models(
    names: Iterable[str], shown: Sequence[Model], row: Callable[[Model], dict[str, str]]
) -> list[dict[str, str]]:
    """A table of the models on each data set, as the templates have it."""
    rows = {name: [row(model) for model in shown if model.system.data == name] for name in names}
    none = f"{NOT_RUN.capitalize()}.\n"
    return [{"data": name, "table": markdown(pd.DataFrame(here)) if here else none} for name, here in rows.items()]


def attacks(shown: Sequence[ModelUnderThreat]) -> str:
    """A line a model: every attack with the images it met."""
    lines = []
    for model in shown:
        names = [f"`{judged.outcome.attack}` ({judged.n})" for judged in model.dossier.under(model.threat)]
        lines.append(f"- `{model.dossier.model}`, {threat(model)}: {', '.join(dict.fromkeys(names))}")
    return "\n".join(lines) + "\n" if lines else f"Nothing: {NOT_RUN}.\n"
