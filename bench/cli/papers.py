"""The commands of the papers: table, figure, page, publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.core.arguments import OUT, PATH
from bench.core.places import is_folder

_RUNS = Path("results/runs")


def _skipped(text: str) -> None:
    """Say that a run was left out of a view."""
    click.echo(f"bench: {text}", err=True)


def _viewing(out: Path, kind: str) -> Callable[[Any], Any]:
    """The arguments of the commands that make papers' views: names, --runs, --out."""

    def decorate(command: Any) -> Any:
        command = click.option("--out", type=OUT, default=out, show_default=True)(command)
        help_ = "Folders of runs, or folders of such; by default results/runs."
        command = click.option("--runs", multiple=True, type=PATH, help=help_)(command)
        return click.argument("names", nargs=-1, required=True, metavar=f"{kind}...")(command)

    return decorate


def _sorted_out(names: tuple[str, ...], runs: tuple[Path, ...]) -> tuple[list[str], list[Path]]:
    # --runs A B: the shell hands the second folder over as another name.
    folders = [*runs, *(Path(name) for name in names if runs and is_folder(Path(name)))]
    return [name for name in names if Path(name) not in folders], folders or [_RUNS]


@click.command()
@_viewing(Path("results/tables"), "TABLE")
def table(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper's table, measured beside published, as CSV and LaTeX: bench table mat/4, or all."""
    from bench.core import registry
    from bench.papers import publish

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.tables, wanted), publish.load(folders, _skipped)
    for name in known:
        click.echo(publish.table(name, stored, out))


@click.command()
@_viewing(Path("results/figures"), "FIGURE")
def figure(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper's figure from stored runs, as PNG: bench figure mat/1, or all."""
    from bench.core import registry
    from bench.papers import publish

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.figures, wanted), publish.load(folders, _skipped)
    for name in known:
        click.echo(publish.figure(name, stored, out))


@click.command()
@_viewing(Path("results"), "PAGE")
def page(names: tuple[str, ...], runs: tuple[Path, ...], out: Path) -> None:
    """A paper on trial, from stored runs, as Markdown: bench page mat, or all."""
    from bench.core import registry
    from bench.papers import publish

    wanted, folders = _sorted_out(names, runs)
    known, stored = publish.names(registry.pages, wanted), publish.load(folders, _skipped)
    for name in known:
        click.echo(publish.page(name, stored, out))


@click.command("publish")
@click.option("--runs", multiple=True, type=PATH, help="Folders of runs, or folders of such; by default results/runs.")
@click.option("--out", type=OUT, default=Path("results"), show_default=True)
@click.option("--views", is_flag=True, help="Also write each run's own tables and curve into its folder.")
def publish_(runs: tuple[Path, ...], out: Path, views: bool) -> None:
    """Everything that stored runs hold: every paper's table, figure and page."""
    from bench.papers import publish

    click.echo(publish.everything(runs or [_RUNS], out, views, _skipped))
