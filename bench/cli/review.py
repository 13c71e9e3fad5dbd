"""The commands that doubt stored runs: compare, verify, audit."""

from __future__ import annotations

from pathlib import Path

import click

from bench.core.arguments import PATH


@click.command()
@click.argument("run_a", type=PATH)
@click.argument("run_b", type=PATH)
def compare(run_a: Path, run_b: Path) -> None:
    """Two runs on the same images, paired example by example."""
    from bench.report import baseline, render
    from bench.store import runs as store

    runs = [store.load(path, finished=True) for path in (run_a, run_b)]
    click.echo(f"images robust in both, only in a = {run_a}, only in b = {run_b}, in neither; exact two-sided p\n")
    click.echo(render.console(baseline.compare_runs(*runs)))
    met = [dict.fromkeys(run.record.labels) for run in runs]
    apart = [", ".join(name for name in mine if name not in other) for mine, other in (met, met[::-1])]
    if any(apart):
        click.echo(f"\nworst is of unlike attacks: only a met {apart[0] or 'none'}; only b met {apart[1] or 'none'}")


@click.command()
@click.argument("directory", metavar="RUN", type=PATH)
@click.option("--model", help="Judge with this model in place of the recorded one.")
def verify(directory: Path, model: str | None) -> int:
    """Judge a run's stored adversarial examples again, without attacking."""
    from bench.evaluation import verification

    agrees, text = verification.verify(directory, model)
    click.echo(text)
    return 0 if agrees else 1


@click.command()
@click.argument("directory", metavar="RUN", type=PATH)
def audit(directory: Path) -> None:
    """Signs that an attack, not the model, is what failed; each names what to run next."""
    from bench.report import audit as auditing
    from bench.store import runs as store

    click.echo(auditing.report(store.load(directory)))
