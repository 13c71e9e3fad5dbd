"""The commands that doubt stored runs: compare, verify, audit."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import trust_option
from bench.core.arguments import PATH


@click.command()
@click.argument("run_a", type=PATH)
@click.argument("run_b", type=PATH)
def compare(run_a: Path, run_b: Path) -> None:
    """Two runs on the same images, paired example by example."""
    from bench.report import baseline, render
    from bench.store import runs as store

    runs = [store.load(path, finished=True) for path in (run_a, run_b)]
    table = render.console(baseline.compare_runs(*runs))
    click.echo(f"images robust in both, only in a = {run_a}, only in b = {run_b}, in neither; exact two-sided p\n")
    click.echo(table)
    met = [dict.fromkeys(run.record.labels) for run in runs]
    apart = [", ".join(name for name in mine if name not in other) for mine, other in (met, met[::-1])]
    if any(apart):
        click.echo(f"\nworst is of unlike attacks: only a met {apart[0] or 'none'}; only b met {apart[1] or 'none'}")


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
