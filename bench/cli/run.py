"""The commands that attack: run and sweep-eps."""

from __future__ import annotations

from typing import Any

import click

from bench.cli.options import made_request, subject_options
from bench.core.types import UserError


@click.command()
@subject_options
@click.option("--attacks", required=True, help='Attack list, as in "pgd(steps=100),cw,adaptive" (bench list attacks).')
@click.option("--eps", help="Budget, as in 8/255 or 0.3; by default what the model was trained for.")
@click.option("--save-adversarial", is_flag=True, help="Keep the adversarial examples, for bench verify.")
@click.option("--until-sound", is_flag=True, help="Then run what the audit names; implies --force.")
@click.option("--extend", is_flag=True, help="Add the attacks to the run in --out.")
def run(until_sound: bool, extend: bool, **options: Any) -> None:
    """Attack a model, write verdicts.csv, table.csv, table.tex, run.json and curve.png, and audit the run."""
    from bench.cli import workflows
    from bench.core.eps import parse_eps

    eps = None if options["eps"] is None else [(parse_eps(options["eps"]), options["eps"])]
    request = made_request(options, options["attacks"], eps)
    click.echo(workflows.run(request, options["out"], options["resume"], until_sound, extend))


@click.command("sweep-eps")
@subject_options
@click.option("--attack", required=True, help="One attack; adaptive stands for all that fit.")
@click.option("--eps", help="Grid: 0:16/255:17 or 0,2/255,4/255; by default 0 to twice the trained eps in 17 steps.")
@click.option("--bisect", is_flag=True, help="Bisect the grid image by image: assumes that success is monotone in eps.")
@click.option("--independent", is_flag=True, help="Run every eps for every image, as separate runs would.")
def sweep_eps(**options: Any) -> None:
    """Robust accuracy over eps: curve.csv, curve.tex and curve.png."""
    from dataclasses import replace

    from bench.cli import workflows
    from bench.core.eps import parse_eps_grid

    eps = None if options["eps"] is None else parse_eps_grid(options["eps"])
    if options["bisect"] and options["independent"]:
        raise UserError("--bisect and --independent exclude each other: give one of them, or none")
    order = "bisect" if options["bisect"] else "independent" if options["independent"] else "exact"
    request = replace(made_request(options, options["attack"], eps), order=order)
    click.echo(workflows.sweep(request, options["out"], options["resume"]))
