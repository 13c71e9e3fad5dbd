"""What there is: `bench list` and `bench data fetch`."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import click

from bench.core import places, registry
from bench.core.arguments import OUT
from bench.core.extras import extra
from bench.core.outline import Outline, outlines
from bench.core.terminal import announce
from bench.core.types import UserError


@click.command("list")
@click.argument(
    "kind",
    type=click.Choice(["models", "attacks", "data", "probes", "detectors", "tables", "figures", "pages", "defenses"]),
)
@click.option("--peers", is_flag=True, help="The attacks of other libraries, with what is known against them.")
def list_(kind: str, peers: bool) -> None:
    """What there is: models, attacks, data, probes, detectors, tables, figures, pages or defenses."""
    click.echo(_catalogue(kind, peers))


@click.group()
def data() -> None:
    """Data sets."""


@data.command()
@click.argument("name")
@click.option("--data-dir", type=OUT, help="Where to put it; by default $BENCH_DATA, else the user cache.")
def fetch(name: str, data_dir: Path | None) -> None:
    """Download a data set from its official address and check it."""
    click.echo(_fetched(name, data_dir))


def _catalogue(kind: str, peers: bool = False) -> str:
    """What there is of a kind, a line each; for attacks, those of other libraries if asked."""
    if peers:
        if kind != "attacks":
            raise UserError("--peers goes with attacks: bench list attacks --peers")
        from bench.attacks.peers.adapter import peers as peer_attacks

        lines = [f"{name:44} {','.join(known):12} {note}" for name, known, note in peer_attacks()]
    elif kind == "models":
        from bench.models import stanzas
        from bench.models.weight_files import presence

        known = stanzas.registry()
        lines = [
            f"{name:28} {point.data:9} {point.defense or '-':10} {presence(point):8} {point.arch}"
            f"{'  (replaces the built-in one)' if name in known.replaced else ''}"
            for name, point in sorted(known.models.items())
        ]
        lines += [_source_line(outline) for outline in outlines("model_sources", registry.model_sources.package)]
        for fault in known.faults.values():
            announce(f"{fault} (the other models can be used)")
    elif kind == "attacks":
        lines = [_attack_line(outline) for outline in outlines(kind, registry.attacks.package)]
    elif kind == "data":
        lines = [f"{name:10} {', '.join(dataset.splits)}" for name, dataset in registry.datasets.items()]
        lines += [f"{outline.name + ':...':14} {outline.summary}" for outline in outlines("data_kinds", "bench.data")]
    elif kind in ("tables", "figures"):
        from bench.papers.captions import captions

        lines = [f"{name:14} {caption.title}" for name, caption in captions(kind).items()]
    else:
        package = getattr(registry, kind).package
        lines = [f"{outline.name:14} {outline.summary}" for outline in outlines(kind, package)]
    return "\n".join(line.rstrip() for line in lines)


def _source_line(outline: Outline) -> str:
    """A source of models: whether its library is here, and what it takes."""
    there = "" if find_spec(outline.attributes["library"]) else f" (not installed: {extra(outline.name)})"
    fields = ", ".join(f"{name}={default}" for name, default in outline.fields.items())
    named = f"{outline.name}:{outline.attributes['names']}"
    return f"{named:28} {outline.summary}{there}\n{'':28} ({fields})"


def _attack_line(outline: Outline) -> str:
    known = outline.attributes
    kind = "minimal" if known["minimal"] else "adaptive" if known.get("adaptive") else "budgeted"
    fields = ", ".join(f"{field}={default}" for field, default in outline.fields.items())
    return f"{outline.name:15} {kind:9} {','.join(known['norms']):12} {outline.summary}\n{'':15} ({fields})"


def _fetched(name: str, data_dir: Path | None) -> str:
    """Download a data set; where its files are now."""
    from bench.data import loading

    thing = loading.find(name)
    directory = data_dir or places.directories(None)[0]
    if shutil.disk_usage(directory if directory.exists() else Path.cwd()).free < 2**28:
        raise UserError(f"{directory} has less than 256 MiB free: give another --data-dir")
    return "\n".join(str(path) for path in thing.fetch(directory)) or f"{name} needs no download"
