"""Runs and sweeps end to end, from a request to the text that is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from bench.cli.options import typed
from bench.cli.progress import Progress
from bench.core.eps import spelled
from bench.core.terminal import announce
from bench.core.types import UserError
from bench.evaluation.request import Request, subject
from bench.evaluation.run import fill, opened, prepare
from bench.models import checkpoints
from bench.store import runs
from bench.store.lock import new_folder


def _made(request: Request, out: Path | None, resume: bool, kind: str, extend: bool = False) -> runs.Run:
    if resume and extend:
        raise UserError("--resume and --extend exclude each other: --extend again goes on with the attacks it adds")
    if (resume or extend) and out is None:
        raise UserError(f"{'--extend' if extend else '--resume'} needs --out: name the folder of the run to continue")
    with prepare(request, subject(request)) as prepared:
        directory = out or new_folder(Path("runs"), f"{request.model}-{kind}")
        with opened(prepared, directory, resume, extend) as writer:
            for name in prepared.record.forced:
                announce(f"the model fails the check {name!r}; going on all the same")
            seen = [*(note.text for note in prepared.notes), *prepared.record.remarks, *writer.notes]
            for note in (*seen, *([] if out else [f"writing to {directory}"])):
                announce(note)
            progress = Progress(prepared, sys.stderr)
            try:
                return fill(prepared, writer, progress)
            finally:
                progress.close()


def run(request: Request, out: Path | None, resume: bool, until_sound: bool = False, extend: bool = False) -> str:
    """Attack a model, store the run with its table and curve, and return what to print.

    With `until_sound`, go on with what the audit names (see `bench.cli.fixing`).
    """
    if until_sound and request.max_passes is not None:
        raise UserError("--until-sound and --max-passes exclude each other: what an audit names has no limit of passes")
    made = _made(replace(request, force=request.force or until_sound), out, resume, "run", extend)
    # Tables and plots are imported once there is something to show: the first row must not wait for them.
    from bench.cli import fixing, summary

    text = summary.of_run(made)
    if not until_sound:
        return text
    return f"{text}\n\n{fixed([made], fixing.request_of(made.record, request.model, request.data_dir))}"


def fixed(made: Sequence[runs.Run], request: Request) -> str:
    """Run what the audit of runs of one model names; what to print."""
    from bench.cli import fixing, summary

    def further(asked: Request, place: Path) -> runs.Run:
        more = _made(asked, place, False, "run")
        summary.of_run(more)
        return more

    return fixing.text(*fixing.until_sound(made, replace(request, command=typed()), further))


def default_grid(eps: float, written: str, points: int = 17) -> list[tuple[float, str]]:
    """From 0 to twice eps, so that eps itself is the point in the middle."""
    if not eps:
        raise UserError("the model's stanza has eps 0, which makes no grid: give --eps, as in 0:16/255:17")
    exact = Fraction(written) if written else Fraction(eps).limit_denominator(10**6)
    grid = [2 * exact * step / (points - 1) for step in range(points)]
    return [(float(value), spelled(value, written)) for value in grid]


def sweep(request: Request, out: Path | None, resume: bool) -> str:
    """Robust accuracy over eps, stored as a run with curve.csv, curve.tex and curve.png."""
    if request.eps is None:
        known = checkpoints.load(request.model).checkpoint.trained_for
        if known is None or known.eps is None or (request.norm and request.norm != known.norm):
            raise UserError("the model's stanza names no eps for this norm: give --eps, as in 0:16/255:17")
        request = replace(request, eps=default_grid(known.eps, known.written))
    made = _made(request, out, resume, "sweep")
    from bench.cli import summary

    return summary.of_sweep(made)
