"""Running what an audit names, until no sign is left or nothing is left to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.core.terminal import announce
from bench.core.types import UserError
from bench.evaluation.request import Request
from bench.report import audit, render
from bench.report.evidence import Case
from bench.report.signs import Step
from bench.store.record import Record
from bench.store.runs import Run

Make = Callable[[Request, Path], Run]
"""Makes the run that a request asks for in a folder."""

_WORTH = frozenset({"adaptive", "square"})
"""What is run because it is missing, even where nothing looks suspicious."""


def request_of(record: Record, model: str | None = None, data_dir: str | None = None) -> Request:
    """The request for further attacks on the model and the images of a run.

    Raises:
        UserError: which images the run is over cannot be said by a number, or it is a sweep.
    """
    sampled = record.sample == "stratified"
    if not sampled and list(record.indices) != list(range(len(record.indices))):
        raise UserError("the run is not over the first images of its data: only such a run can be gone on with")
    if record.eps_grid is not None:
        raise UserError("a sweep has many eps: audit a run at the one that matters, and --fix that")
    eps = None if record.eps is None else [(record.eps, record.eps_written or repr(record.eps))]
    return Request(
        model or record.model,
        "",
        data=record.data,
        split=record.split or "test",
        n=len(record.indices),
        sample="stratified" if sampled else "first",
        norm=record.norm,
        eps=eps,
        seed=record.seed,
        batch_size=record.batch_size,
        device=record.device,
        force=True,
        data_dir=data_dir,
    )


def until_sound(runs: Sequence[Run], request: Request, make: Make) -> tuple[list[Run], list[str]]:
    """Make the runs that audits name, one after another, each in a folder of its own beside the first.

    Args:
        runs: of one model on the same images, the one in question first.
        request: what `request_of` gives for it.
        make: makes a run.

    Returns:
        All runs, those given first, and what could not be run, a line each.
    """
    made, failed, done = list(runs), list[str](), set[Step]()
    while step := _next(made, done):
        done.add(step)
        asked = replace(request, attacks=step.attacks, eot=step.eot, backward=step.backward or None)
        place = _beside(runs[0].directory or Path("run"))
        announce(f"{step} into {place}")
        try:
            made.append(make(asked, place))
        except UserError as fault:
            failed.append(f"{step}: {fault}")
    return made, failed


def _next(made: Sequence[Run], done: set[Step]) -> Step | None:
    named = [sign.step for sign in audit.signs(made)]
    named += [sign.step for sign in audit.missing(made) if sign.name in _WORTH]
    return next((step for step in named if step and step not in done), None)


def _beside(directory: Path) -> Path:
    """The first folder RUN-fix-1, RUN-fix-2, ... that is not there yet."""
    number = 1
    while (place := directory.with_name(f"{directory.name}-fix-{number}")).exists():
        number += 1
    return place


def text(made: Sequence[Run], failed: Sequence[str]) -> str:
    """What was run, what each step left, what is left after all, and the audit of them together."""
    rows, whole = [], Case.of(made)
    for count in range(1, len(made) + 1):
        run, case = made[count - 1], Case.of(made[:count])
        alone, together = (what.left(whole.eps) for what in (Case.of(run), case))
        rows.append(
            {
                "run": str(run.directory),
                "attacks": ",".join(attack.spec for attack in run.record.attacks),
                "eot": run.record.eot,
                "backward": run.record.backward or "",
                "alone_accuracy": float(alone.mean()),
                "together_accuracy": float(together.mean()),
            }
        )
    first, last = rows[0]["together_accuracy"], rows[-1]["together_accuracy"]
    record = whole.record
    where = "any size" if whole.eps is None else f"{record.norm} {record.eps_written or record.eps}"
    verdict = f"{last:.2%} of {len(whole.right)} images stand at {where}; the first run alone said {first:.2%}"
    return "\n".join(
        [
            render.console(pd.DataFrame(rows)),
            "",
            *(f"could not be run: {line}" for line in failed),
            audit.report(made),
            "",
            verdict,
        ]
    )
