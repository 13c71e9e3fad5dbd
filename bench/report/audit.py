"""Signs that an attack, not the model, is what failed; each names the next thing to run.

After the checklist of Carlini et al. (2019), the failures of Pintor et al. (2022) and AutoAttack's own flags (Croce and
Hein 2020), as far as stored verdicts and measured gradients tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.report import audit_attacks, audit_models
from bench.report.evidence import Case
from bench.report.signs import Sign, Step, ordered
from bench.store.runs import Run

SOUND = "no sign that an attack failed"
"""What a report says of a run without a sign."""

_LOOKS: tuple[Callable[[Case], Iterator[Sign]], ...] = (
    audit_models.set_up,
    audit_models.chance,
    audit_models.claims,
    audit_models.gradients,
    *audit_attacks.LOOKS,
)


def signs(runs: Run | Sequence[Run]) -> list[Sign]:
    """Everything suspicious about a run, or about runs of one model on the same images, the gravest first.

    Raises:
        UserError: the runs do not belong together.
    """
    case = Case.of(runs)
    return ordered(sign for look in _LOOKS for sign in look(case))


def missing(runs: Run | Sequence[Run]) -> list[Sign]:
    """What a full evaluation holds and these runs lack."""
    case = Case.of(runs)
    budgeted, minimal = case.record.eps is not None or case.record.eps_grid is not None, "a minimal attack"
    absent = {
        "adaptive": (budgeted and not any(run.record.adaptive for run in case.runs), Step("adaptive")),
        "square": (budgeted and not case.ran(lambda tried: tried.needs_no_gradient), Step("square")),
        "noise": (budgeted and not case.met("noise"), Step("noise")),
        minimal: (not case.ran(lambda tried: tried.minimal), Step("minimal")),
    }
    why = {
        "adaptive": "the losses that this model's structure allows",
        "square": "a gradient-free attack, as a probe for masking",
        "noise": "the weakest attack, which none may lose to",
        minimal: "the smallest perturbation of each image",
    }
    return [Sign("not run", name, why[name], f"{step}", step) for name, (lacks, step) in absent.items() if lacks]


def report(runs: Run | Sequence[Run]) -> str:
    """The signs, a line each, what was not run, and the commands that come next."""
    seen, absent = signs(runs), missing(runs)
    lines = [str(sign) for sign in seen] or [SOUND]
    if absent:
        lines.append("not run: " + ", ".join(f"{sign.name} ({sign.seen})" for sign in absent))
    record = Case.of(runs).record
    steps = dict.fromkeys(sign.step for sign in seen if sign.step)
    lines += [f"next: {step.command(record)}" for step in steps if step]
    return "\n".join(lines)
