"""The commands that look inside: probe and detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli.options import chosen, images_option, trust_option, typed
from bench.core.arguments import COUNT, OUT, PATH, SEED
from bench.core.samples import Sample


@click.command()
@click.argument("directory", metavar="RUN", type=PATH)
@click.option("--probes", required=True, help='As in "cosine,match_rate(limit=2000)" (bench list probes).')
@click.option("--out", type=OUT, help="Folder whose probes/ they go to; by default the run's.")
@click.option("--device", default="auto", show_default=True)
@click.option("--model", help="The run's model by another name: its weights must be the recorded ones.")
@trust_option
def probe(directory: Path, probes: str, out: Path | None, device: str, model: str | None, trusted: bool) -> None:
    """Look at a model through a run's clean and stored adversarial images; writes RUN/probes/NAME.csv."""
    from bench.evaluation import probing

    click.echo(probing.probe(directory, probes, out, device, model, trusted))


@click.command()
@click.option("--model", required=True, help="Name in checkpoints.toml, file.py:factory or package.module:factory.")
@click.option("--detector", required=True, help="One, as in \"er(encoder='er_digits')\" (bench list detectors).")
@click.option("--attacks", required=True, help="What it meets, and is fitted on each of, unless --fit-attack is given.")
@click.option("--fit-attack", help="Fit on this attack, or each of this list, alone.")
@click.option("--data", help="Data set; by default the one of the model's stanza (bench list data).")
@images_option
@click.option("--norm", type=click.Choice(["linf", "l2", "l1"]), help="Norm of the threat model.")
@click.option("--eps", help="Budget, as in 8/255 or 0.3; by default what the model was trained for.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--batch-size", type=COUNT, help="Images at once; by default as many as fit.")
@click.option("--device", default="auto", show_default=True)
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
@click.option("--out", type=OUT, help="Folder of the detection; by default one under runs/.")
@click.option("--resume", is_flag=True, help="Keep the detection in --out if it is there whole; make it there if not.")
def detect(
    detector: str,
    fit_attack: str | None,
    n: Sample | None,
    eps: str | None,
    out: Path | None,
    resume: bool,
    **options: Any,
) -> None:
    """Fit a detector, try it on other images under attacks and a joint one: detect.json, scores.csv, table.csv."""
    from bench.core.eps import parse_eps
    from bench.evaluation import detection
    from bench.evaluation.request import Request
    from bench.report import detection_table

    budget = None if eps is None else [(parse_eps(eps), eps)]
    request = Request(eps=budget, save_adversarial=True, command=typed(), **chosen(n), **options)

    def tell(text: str) -> None:
        click.echo(f"bench: {text}", err=True)

    made = detection.detect(request, detector, fit_attack, out, resume, tell)
    click.echo(f"{detection_table.write(made)}\n\n{made.directory}")
