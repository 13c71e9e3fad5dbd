"""The commands beside runs and sweeps: probe, detect, table, figure, page, publish, compare, verify, audit."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_RUNS = Path("results/runs")


def _viewing(out: Path, kind: str) -> Callable[[Any], Any]:
    """The arguments of the commands that make papers' views: names, --runs, --out."""

    def decorate(command: Any) -> Any:
        command = click.option("--out", type=_PATH, default=out, show_default=True)(command)
        help_ = "Folders of runs, or folders of such; by default results/runs."
        command = click.option("--runs", multiple=True, type=_PATH, help=help_)(command)
        return click.argument("names", nargs=-1, required=True, metavar=f"{kind}...")(command)

    return decorate


def _sorted_out(names: tuple[str, ...], runs: tuple[Path, ...]) -> tuple[list[str], list[Path]]:
    # --runs A B: the shell hands the second folder over as another name.
    folders = [*runs, *(Path(name) for name in names if runs and Path(name).is_dir())]
    return [name for name in names if Path(name) not in folders], folders or [_RUNS]


@click.command()
@_viewing(Path("results/tables"), "TABLE")
def table(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper's table, measured beside published, as CSV and LaTeX: bench table mat/4, or all."""
    from bench import publish, registry

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.tables, wanted), publish.load(folders)
    for name in known:
        click.echo(publish.table(name, stored, out))


@click.command()
@_viewing(Path("results/figures"), "FIGURE")
def figure(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper's figure from stored runs, as PNG: bench figure mat/1, or all."""
    from bench import publish, registry

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.figures, wanted), publish.load(folders)
    for name in known:
        click.echo(publish.figure(name, stored, out))


@click.command()
@_viewing(Path("results"), "PAGE")
def page(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper on trial, from stored runs, as Markdown: bench page mat, or all."""
    from bench import publish, registry

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.pages, wanted), publish.load(folders)
    for name in known:
        click.echo(publish.page(name, stored, out))


@click.command("publish")
@click.option("--runs", multiple=True, type=_PATH, help="Folders of runs, or folders of such; by default results/runs.")
@click.option("--out", type=_PATH, default=Path("results"), show_default=True)
def publish_(runs: tuple[Path, ...], out: Path) -> None:
    """Everything that stored runs hold: their own tables and curves, every paper's table, figure and page."""
    from bench import publish

    click.echo(publish.everything(runs or [_RUNS], out))


@click.command()
@click.argument("directory", metavar="RUN", type=_PATH)
@click.option("--probes", required=True, help='As in "cosine,match_rate(limit=2000)" (bench list probes).')
@click.option("--out", type=_PATH, help="Folder whose probes/ they go to; by default the run's.")
@click.option("--device", default="auto", show_default=True)
def probe(directory: Path, probes: str, out: Path | None, device: str) -> None:
    """Look at a model through a run's clean and stored adversarial images; writes RUN/probes/NAME.csv."""
    from bench import probing

    click.echo(probing.probe(directory, probes, out, device))


@click.command()
@click.option("--model", required=True, help="Name in checkpoints.toml, file.py:factory or package.module:factory.")
@click.option("--detector", required=True, help="One, as in \"er(encoder='er_digits')\" (bench list detectors).")
@click.option("--attacks", required=True, help="What it meets, and is fitted on each of, unless --fit-attack is given.")
@click.option("--fit-attack", help="Fit on this attack, or each of this list, alone.")
@click.option("--data", help="Data set; by default the one of the model's stanza (bench list data).")
@click.option("-n", type=int, help="Use the first N test images: to fit on, to calibrate on and to test on.")
@click.option("--norm", type=click.Choice(["linf", "l2", "l1"]), help="Norm of the threat model.")
@click.option("--eps", help="Budget, as in 8/255 or 0.3; by default what the model was trained for.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), help="Images at once; by default as many as fit.")
@click.option("--device", default="auto", show_default=True)
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
@click.option("--out", type=_PATH, help="Folder of the detection; by default one under runs/.")
def detect(detector: str, fit_attack: str | None, eps: str | None, out: Path | None, **options: Any) -> None:
    """Fit a detector, try it on other images under attacks and a joint one: detect.json, scores.csv, table.csv."""
    from bench import detecting
    from bench.request import Request
    from bench.specs import parse_eps

    budget = None if eps is None else [(parse_eps(eps), eps)]
    command = shlex.join(["bench", *sys.argv[1:]])
    request = Request(eps=budget, save_adversarial=True, command=command, **options)
    click.echo(detecting.detect(request, detector, fit_attack, out))


@click.command()
@click.argument("run_a", type=_PATH)
@click.argument("run_b", type=_PATH)
def compare(run_a: Path, run_b: Path) -> None:
    """Two runs on the same images, paired example by example."""
    from bench import regress, store
    from bench.tables import render

    runs = [store.load(path, finished=True) for path in (run_a, run_b)]
    click.echo(f"images robust in both, only in a = {run_a}, only in b = {run_b}, in neither; exact two-sided p\n")
    click.echo(render.console(regress.compare_runs(*runs)))
    met = [dict.fromkeys(store.labels(run.record)) for run in runs]
    apart = [", ".join(name for name in mine if name not in other) for mine, other in (met, met[::-1])]
    if any(apart):
        click.echo(f"\nworst is of unlike attacks: only a met {apart[0] or 'none'}; only b met {apart[1] or 'none'}")


@click.command()
@click.argument("directory", metavar="RUN", type=_PATH)
@click.option("--model", help="Judge with this model in place of the recorded one.")
def verify(directory: Path, model: str | None) -> int:
    """Judge a run's stored adversarial examples again, without attacking."""
    from bench import session

    agrees, text = session.verify(directory, model)
    click.echo(text)
    return 0 if agrees else 1


@click.command()
@click.argument("directory", metavar="RUN", type=_PATH)
def audit(directory: Path) -> None:
    """Signs that an attack, not the model, is what failed; each names what to run next."""
    from bench import audit as auditing
    from bench import store

    click.echo(auditing.report(store.load(directory)))


ALL = (probe, detect, table, figure, page, publish_, compare, verify, audit)
