"""The command that proves: certify."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import trust_option, typed
from bench.core.arguments import PATH


@click.command()
@click.argument("directory", metavar="RUN", type=PATH)
@click.option("--norm", type=click.Choice(["linf", "l2"]), help="By default the run's.")
@click.option("--eps", help="As in 8/255 or 0,2/255,4/255; by default each of the run's.")
@click.option(
    "--method",
    type=click.Choice(["ibp", "crown-ibp", "crown"]),
    help="This one alone; by default all in turn, cheap ones first, until an image is proven.",
)
@click.option("--model", help="The run's model by another name: its weights must be the recorded ones.")
@trust_option
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
def certify(
    directory: Path,
    norm: str | None,
    eps: str | None,
    method: str | None,
    model: str | None,
    trusted: bool,
    data_dir: str | None,
) -> int:
    """Prove which of a run's images no attack can break: certified.csv, certified_table.csv.

    Sound lower bounds of margins, by intervals and CROWN. The same command again goes on where it was stopped.

    Exit 0: done; 1: an image is both certified and broken; 2: it could not be tried.
    """
    from bench.cli.progress import CertifyProgress
    from bench.core.eps import parse_eps_grid
    from bench.evaluation.certification import stored_run
    from bench.report import certified, run_table

    grid = None if eps is None else parse_eps_grid(eps)
    progress = CertifyProgress(sys.stderr)
    how = {"model": model, "trusted": trusted, "data_dir": data_dir, "command": typed(), "told": progress}
    try:
        made, known = stored_run.certify(directory, norm, grid, method, **how)  # type: ignore[arg-type]
    finally:
        progress.close()
    certified.write(made, known, directory)
    run_table.write_again(made)
    complaint = certified.complaint(made, known)
    click.echo(f"{run_table.protocol(made)}\n\n{certified.console(made, known)}\n\n{directory / 'certified.csv'}")
    if complaint:
        click.echo(f"bench: {complaint}", err=True)
    return 1 if complaint else 0
