"""`python -m defenses train RECIPE`, `list`, `adopt`: reads arguments and prints; holds no logic."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.core.arguments import OUT, OUT_FILE, PATH
from bench.core.entry import enter
from bench.core.registry import defenses

if TYPE_CHECKING:  # a recipe imports torch
    from defenses.training.recipe import Recipe


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train the defenses of the papers."""


@main.command()
@click.argument("recipe")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, as in train.epochs=5.")
@click.option("--out", type=OUT, help="Where files go (default: runs/training/NAME).")
@click.option("--resume", is_flag=True, help="Go on where an interrupted training stopped.")
@click.option("--data-dir", metavar="DIR", help="Where data sets lie (default: $BENCH_DATA, then the cache).")
def train(recipe: str, settings: tuple[str, ...], out: Path | None, resume: bool, data_dir: str | None) -> None:
    """Train by RECIPE, a TOML file or the name of a built-in one."""
    from defenses.training import recipe as recipes
    from defenses.training.loop import train as run

    read = recipes.load(recipe, settings)
    out = Path("runs", "training", read.name) if out is None else out
    changed = [part for setting in settings for part in ("--set", setting)]
    command = shlex.join(["python", "-m", "defenses", "train", recipe, *changed])
    last = run(read, out, resume, command, data_dir)
    click.echo(_summary(read, last))
    click.echo(f"weights: {out / 'weights.safetensors'}  stanza: {out / 'stanza.toml'}  log: {out / 'log.csv'}")


def _summary(recipe: Recipe, row: dict[str, float | None]) -> str:
    parts = [f"{recipe.name}: epoch {row['epoch']:.0f}"]
    if row.get("held_out_accuracy") is not None:
        parts.append(f"held-out clean {row['held_out_accuracy']:.1%}")
    threat = recipe.threat()
    if threat is not None and row.get("held_out_pgd_accuracy") is not None:
        parts.append(f"PGD-{recipe.evaluation.steps} {threat.norm} {threat.written} {row['held_out_pgd_accuracy']:.1%}")
    return ", ".join(parts)


@main.command()
@click.argument("directory", type=PATH)
@click.option("--into", type=OUT_FILE, default=Path("checkpoints.toml"), show_default=True)
@click.option("--name", help="The model's name, if it is not to be the recipe's.")
def adopt(directory: Path, into: Path, name: str | None) -> None:
    """Copy a finished training into a project: stanza into checkpoints.toml, weights and log beside it."""
    from defenses.training import stanza

    for path in stanza.adopt(directory, into, name):
        click.echo(path)


@main.command("list")
def list_() -> None:
    """Name the defenses and the built-in recipes."""
    from defenses.training.parsing import names

    for name, defense in defenses.items():
        click.echo(f"{name:12} {(defense.__doc__ or '').strip().splitlines()[0]}")
    click.echo("recipes: " + ", ".join(names()))


def entry() -> None:
    """Run the command; one line and exit status 2 for bad input, 1 for a diverged training."""
    enter(main, "defenses")


if __name__ == "__main__":
    entry()
