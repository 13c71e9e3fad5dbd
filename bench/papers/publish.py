"""Papers' tables, figures and pages from stored runs: files to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core import registry
from bench.core.eps import parse_eps
from bench.core.files import write_atomically
from bench.core.text import as_file_name
from bench.core.types import UserError
from bench.papers import published
from bench.papers.captions import captions
from bench.report import canvas, curves, detection_table, measures, render, run_table
from bench.report.captions import stated
from bench.store import detections, probes
from bench.store import runs as store
from bench.store.runs import Run


def load(places: Sequence[Path], skipped: Callable[[str], None] | None = None) -> list[Run]:
    """Every run at or below some places, in the order of their paths.

    Args:
        places: folders of runs, or folders of such.
        skipped: told of each run that is damaged or not finished; without it, the first of them is an error.

    Raises:
        UserError: there is no run, or none that can be read.
    """
    kinds: dict[str, Callable[[Path], Run]] = {
        "run.json": partial(store.load, finished=True),
        detections.RECORD: detections.load,
    }
    paths = dict.fromkeys(path for place in places for path in sorted(place.rglob("*.json")) if path.name in kinds)
    if not paths:
        raise UserError(f"no runs under {', '.join(map(str, places))}: give --runs")
    runs, faults = list[Run](), list[tuple[Path, UserError]]()
    for path in paths:
        try:
            made = kinds[path.name](path.parent)
            _look_through(made)
        except UserError as fault:
            if skipped is None:
                raise
            faults.append((path.parent, fault))
        else:
            runs.append(made)
    if not runs and len(faults) == 1:
        raise faults[0][1]
    for place, cause in faults:
        if skipped:
            skipped(f"skipped {place}: {cause}")
    if not runs:
        raise UserError(f"none of the {len(faults)} runs under {', '.join(map(str, places))} can be read")
    return runs


def _look_through(made: Run) -> None:
    """Read what views read later, so that a damaged file is told now, with the run it belongs to."""
    if isinstance(made, detections.Detection):
        detections.scores(made)
    for name in probes.names(made):
        probes.read(made, name)


def table(name: str, runs: Sequence[Run], out: Path) -> str:
    """One paper's table as CSV, LaTeX and Markdown in `out`; what to print."""
    make, numbers = registry.tables[name], published.load()
    made = make(runs, numbers)
    written, stem = _eps_as_written(runs, numbers), name.replace("/", "-")
    about = captions("tables")[name]
    render.write(out, stem, made, about.title, written, notes=about.notes, headings=about.headings)
    shown = made.drop(columns=stated(made))
    return f"{render.console(shown, written, about.headings)}\n\n{out / stem}.csv"


def figure(name: str, runs: Sequence[Run], out: Path) -> str:
    """One paper's figure as PNG files in `out`; their paths, a line each."""
    make, paths = registry.figures[name], []
    for part, drawn in make(runs).items():
        paths.append(out / as_file_name(f"{name.replace('/', '-')}-{part}.png"))
        canvas.save(drawn, paths[-1])
    return "\n".join(map(str, paths)) or f"{name}: the runs hold nothing to draw. {captions('figures')[name].title}"


def page(name: str, runs: Sequence[Run], out: Path) -> str:
    """One paper's page as Markdown in `out`; where it is."""
    path = out / f"{name}.md"
    write_atomically(path, registry.pages[name](runs, published.load()))
    return str(path)


def own_views(run: Run) -> None:
    """A run's own table and curve, in its folder; a detection's table."""
    if isinstance(run, detections.Detection):
        detection_table.write(run)
        return
    run_table.write(run)
    if run.directory:
        if run.record.eps_grid:
            run_table.write_curve(run, run.directory)
        curves.write(run, run.directory / "curve.png")


def unclean(runs: Sequence[Run]) -> list[str]:
    """The names of runs that were made from a checkout with uncommitted changes, which nobody else can have."""
    return [run.directory.name for run in runs if run.directory and run.record.dirty]


def everything(
    places: Sequence[Path], out: Path, views: bool = False, skipped: Callable[[str], None] | None = None
) -> str:
    """Every paper's tables, figures and pages in `out`; with `views` also each run's own, in its folder.

    `skipped` is told of runs that cannot be read (see `load`).
    """
    runs = load(places, skipped)
    if views:
        for run in runs:
            own_views(run)
    for name in registry.tables:
        table(name, runs, out / "tables")
    for name in registry.figures:
        figure(name, runs, out / "figures")
    pages = [page(name, runs, out) for name in registry.pages]
    lines = [f"{len(runs)} runs, {out / 'tables'}, {out / 'figures'}", *pages]
    if dirty := unclean(runs):
        lines.append(f"made from a checkout with uncommitted changes, {len(dirty)} runs: {', '.join(dirty)}")
    return "\n".join(lines)


def names(kind: registry.Registry[Any], wanted: Sequence[str]) -> list[str]:
    """The names asked for; "all" is every one there is.

    Raises:
        UserError: there is no such name.
    """
    asked = [name for word in wanted for name in (list(kind) if word == "all" else [word])]
    for name in asked:
        kind[name]
    return asked


def _eps_as_written(runs: Sequence[Run], numbers: pd.DataFrame) -> dict[float, str]:
    """Every eps of the runs and of the papers as it was written; the runs' own words count."""
    texts = [setting.get("eps") for setting in numbers["params"] if isinstance(setting, dict)]
    printed = {parse_eps(text): text for text in texts if isinstance(text, str)}
    return printed | {eps: text for run in runs for eps, text in measures.budgets(run.record).items()}
