"""The command of CI: check stored numbers against new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import trust_option
from bench.core.arguments import OUT_FILE, PATH, Whole


@click.command()
@click.option("--baseline", type=PATH, default=Path("results/baseline.csv"), show_default=True)
@click.option("--model", "models", multiple=True, help="Check these models alone.")
@click.option("--allow-rise", is_flag=True, help="Accept a model that got stronger.")
@click.option("--tolerance", type=Whole(0), help="Net change accepted, in images; by default 1 % of them.")
@click.option("--junit", type=OUT_FILE, help="Write the findings as JUnit XML as well.")
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
@trust_option
@click.option("--add", "added", multiple=True, type=PATH, help="Store this run in the baseline.")
def check(**options: Any) -> int:
    """Run what the baseline holds again. Exit 0: it holds; 1: it regressed; 2: it could not run."""
    from bench.cli import gate

    if options["added"]:
        click.echo(gate.add(options["baseline"], options["added"]))
        return 0
    names = ("models", "allow_rise", "tolerance", "data_dir", "trusted")
    report = gate.check(options["baseline"], **{name: options[name] for name in names})
    click.echo(report.text)
    if options["junit"]:
        gate.write_junit(report, options["junit"])
    return report.exit_code
