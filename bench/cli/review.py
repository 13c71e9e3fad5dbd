"""The commands that doubt stored runs: compare, verify, audit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.options import trust_option
from bench.core.arguments import OUT, PATH
from bench.core.places import is_file, is_folder
from bench.core.types import UserError

_STORED = (Path("results/runs"), Path("runs"))
"""Where stored runs are looked for unless the user names folders."""


def _skipped(text: str) -> None:
    """Say that a run was left out."""
    click.echo(f"bench: {text}", err=True)


@click.command()
@click.argument("directories", metavar="RUN_A RUN_B | --attacks RUN [RUN ...]", type=PATH, nargs=-1, required=True)
@click.option("--attacks", "scored", is_flag=True, help="Score every attack against the best of all stored runs.")
@click.option("--runs", multiple=True, type=PATH, help="Folders of stored runs; by default results/runs and runs.")
@click.option("--out", type=OUT, help="With --attacks: a folder for optimality.csv, .tex and .md.")
def compare(directories: tuple[Path, ...], scored: bool, runs: tuple[Path, ...], out: Path | None) -> None:
    """Two runs on the same images, paired example by example; or attacks against all that was tried on their model."""
    if scored:
        click.echo(_scored(directories, runs, out))
        return
    if runs or out:
        raise UserError("--runs and --out go with --attacks, which scores attacks: add it, or leave them out")
    if len(directories) != 2:
        raise UserError(f"compare pairs two runs, not {len(directories)}: name two, or add --attacks to score attacks")
    from bench.report import baseline, render
    from bench.store import runs as store

    run_a, run_b = directories
    pair = [store.load(path, finished=True) for path in directories]
    table = render.console(baseline.compare_runs(*pair))
    click.echo(f"images robust in both, only in a = {run_a}, only in b = {run_b}, in neither; exact two-sided p\n")
    click.echo(table)
    met = [dict.fromkeys(run.record.labels) for run in pair]
    apart = [", ".join(name for name in mine if name not in other) for mine, other in (met, met[::-1])]
    if any(apart):
        click.echo(f"\nworst is of unlike attacks: only a met {apart[0] or 'none'}; only b met {apart[1] or 'none'}")


def _scored(directories: Sequence[Path], folders: Sequence[Path], out: Path | None) -> str:
    """Every attack of some runs against the best of all stored runs of their model: what to print."""
    from bench.report import optimality, render
    from bench.store import alike

    # --runs A B: the shell hands the second folder over as another run.
    more = [place for place in directories if folders and not is_file(place / "run.json") and is_folder(place)]
    runs = alike.load_finished([place for place in directories if place not in more], _skipped)
    stored = alike.load_like([*folders, *more] or list(filter(is_folder, _STORED)), runs, _skipped)
    table, notes = optimality.scores(runs, stored)
    if out is not None:
        optimality.write(out, table, notes, runs[0])
    shown = table if table["run"].nunique() > 1 else table.drop(columns="run")
    where = [f"{out / 'optimality'}.csv"] if out else []
    return "\n\n".join([render.console(shown, headings=optimality.HEADINGS), "\n".join(notes), *where])


@click.command()
@click.argument("directory", metavar="RUN", type=PATH)
@click.option("--model", help="Judge with this model in place of the recorded one.")
@trust_option
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
def verify(directory: Path, model: str | None, trusted: bool, data_dir: str | None) -> int:
    """Judge a run's stored adversarial examples again, without attacking, and hold its files to each other.

    Exit 0: all stands; 1: something does not; 2: it could not be tried.
    """
    from bench.evaluation import verification
    from bench.report import stored_views

    made = verification.verify(directory, model, trusted, data_dir)
    made = made.with_views(stored_views.present(made.run), stored_views.faults(made.run))
    click.echo(made.text)
    return 0 if made.stands else 1


@click.command()
@click.argument("directories", metavar="RUN [RUN ...]", type=PATH, nargs=-1, required=True)
@click.option("--fix", is_flag=True, help="Run what is named, beside the run, until no sign is left.")
@click.option("--model", help="With --fix: the run's model by another name.")
@trust_option
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
def audit(directories: tuple[Path, ...], fix: bool, model: str | None, trusted: bool, data_dir: str | None) -> None:
    """Signs that an attack, not the model, is what failed; each names what to run next.

    Several runs of one model on the same images are read together.
    """
    from bench.report import audit as auditing
    from bench.store import runs as store

    made = [store.load(path, finished=fix) for path in directories]
    if not fix:
        click.echo(auditing.report(made))
        return
    from bench.cli import fixing, workflows
    from bench.evaluation import trust

    record = made[0].record
    named = trust.model_named(record.model, model, trusted, str(directories[0] / "run.json"))
    click.echo(workflows.fixed(made, fixing.request_of(record, named, data_dir)))
