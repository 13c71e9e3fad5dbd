"""What each command does, from words to the text it prints. The command line only parses and prints."""

from __future__ import annotations

import datetime
import inspect
import shutil
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from bench import adversarial, checkpoints, checks, files, judge, layout, measures, registry, store
from bench.attacks.peers import peers as peer_attacks
from bench.data import loading
from bench.figures import curves
from bench.plan import settable
from bench.progress import Progress
from bench.request import Request, subject
from bench.run import execute, prepare
from bench.specs import spelled
from bench.tables import run_table
from bench.types import UserError

_NAMED = 3
"""How many rows a message names."""


def _folder(out: Path | None, resume: bool, model: str, kind: str) -> Path:
    if out is not None:
        return out
    if resume:
        raise UserError("--resume needs --out: name the folder of the run to continue")
    stem = Path(model).name.replace(":", "-")
    return Path("runs") / f"{stem}-{kind}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"


def _made(request: Request, directory: Path, resume: bool) -> store.Run:
    with prepare(request, subject(request)) as prepared:
        for name in prepared.record["forced"]:
            print(f"bench: the model fails the check {name!r}; going on because of --force", file=sys.stderr)
        if directory.parent == Path("runs"):
            print(f"bench: writing to {directory}", file=sys.stderr)
        progress = Progress(prepared, sys.stderr)
        try:
            return execute(prepared, directory, resume, progress)
        finally:
            progress.close()


def _warnings(made: store.Run) -> str:
    lines = [
        f"\n{attack}: {count} proposals are unlawful (not finite, outside [0, 1] or beyond eps): the attack is broken"
        for attack, count in measures.unlawful(made).items()
    ]
    if flagged := measures.flagged(made):
        lines.append(f"\n{flagged} rows met NaN or infinity (adv_pred -1): they are no evidence of robustness")
    return "".join(lines)


def run(request: Request, out: Path | None, resume: bool) -> str:
    """Attack a model, store the run with its table and curve, and return what to print."""
    directory = _folder(out, resume, request.model, "run")
    made = _made(request, directory, resume)
    run_table.write(made)
    curves.write(made, directory / "curve.png")
    return f"{run_table.console(made)}{_warnings(made)}\n\n{directory}"


def default_grid(eps: float, written: str, points: int = 17) -> list[tuple[float, str]]:
    """From 0 to twice eps, so that eps itself is the point in the middle."""
    if not eps:
        raise UserError("the model's stanza has eps 0, which makes no grid: give --eps, as in 0:16/255:17")
    exact = Fraction(written) if written else Fraction(eps).limit_denominator(10**6)
    grid = [2 * exact * step / (points - 1) for step in range(points)]
    return [(float(value), spelled(value, written)) for value in grid]


def sweep(request: Request, out: Path | None, resume: bool) -> str:
    """Robust accuracy over eps, stored as a run with curve.csv, curve.tex and curve.png."""
    if request.eps is None:
        known = checkpoints.load(request.model).checkpoint.trained_for
        if known is None or known.eps is None or (request.norm and request.norm != known.norm):
            raise UserError("the model's stanza names no eps for this norm: give --eps, as in 0:16/255:17")
        request = replace(request, eps=default_grid(known.eps, known.written))
    directory = _folder(out, resume, request.model, "sweep")
    made = _made(request, directory, resume)
    run_table.write(made)
    run_table.write_curve(made, directory)
    curves.write(made, directory / "curve.png")
    return f"{run_table.sweep_console(made)}{_warnings(made)}\n\n{directory}"


def verify(directory: Path, model: str | None) -> tuple[bool, str]:
    """Judge stored adversarial examples again; whether every verdict stands, and a line that says so.

    Everything is made anew from the stored images: clean and adversarial predictions, sizes, lawfulness.
    """
    kept, made = adversarial.load(directory), store.load(directory)
    name = model or made.record["model"]
    loaded = checkpoints.load(name)
    if not model and loaded.sha256 != made.record["weights_sha256"]:
        raise UserError(f"{name} has other weights than this run's: name a model with --model to judge by it anyway")
    batch = int(made.record["batch_size"])
    with checks.prepared(loaded.model), layout.suited(loaded.model, torch.tensor(kept.clean[:16])):
        differ = [
            f"image {row['index']} under {row['attack']}"
            for rows, (images, clean) in adversarial.by_trial(kept, made.verdicts)
            for at in range(0, len(rows), batch)
            for row in judge.disagreements(
                loaded.model, rows.iloc[at : at + batch], images[at : at + batch], clean[at : at + batch]
            ).to_dict("records")
        ]
    total = len(made.verdicts)
    if differ:
        named = ", ".join(differ[:_NAMED]) + (", ..." if len(differ) > _NAMED else "")
        return False, f"{len(differ)} of {total} verdicts of {directory} do not stand: {named}"
    return True, f"all {total} verdicts of {directory} stand"


def catalogue(kind: str, peers: bool = False) -> str:
    """What there is of a kind, a line each; for attacks, those of other libraries if asked."""
    if peers:
        if kind != "attacks":
            raise UserError("--peers goes with attacks: bench list attacks --peers")
        lines = [f"{name:44} {','.join(known):12} {note}" for name, known, note in peer_attacks()]
    elif kind == "models":
        lines = [
            f"{name:28} {point.data:9} {point.defense or '-':10} {point.arch}"
            for name, point in sorted(checkpoints.registry().items())
        ]
    elif kind == "attacks":
        lines = [_attack_line(name, attack) for name, attack in registry.attacks.items()]
    elif kind == "data":
        lines = [f"{name:10} {', '.join(thing.splits)}" for name, thing in registry.datasets.items()]
        lines.append("folder:PATH a folder of images, one directory a class")
    else:
        chosen: registry.Registry[Any] = getattr(registry, kind)
        lines = [f"{name:14} {_first_line(thing)}" for name, thing in chosen.items()]
    return "\n".join(line.rstrip() for line in lines)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _attack_line(name: str, attack: Any) -> str:
    defaults = {field: attack.__dataclass_fields__[field].default for field in settable(attack)}
    written = ", ".join(f"{field}={value}" for field, value in defaults.items())
    kind = "minimal" if attack.minimal else "adaptive" if getattr(attack, "adaptive", False) else "budgeted"
    return f"{name:15} {kind:9} {','.join(attack.norms):12} {_first_line(attack)}\n{'':15} ({written})"


def fetch(name: str, data_dir: Path | None) -> str:
    """Download a data set; where its files are now."""
    thing = loading.find(name)
    directory = data_dir or files.directories(None)[0]
    if shutil.disk_usage(directory if directory.exists() else Path.cwd()).free < 2**28:
        raise UserError(f"{directory} has less than 256 MiB free: give another --data-dir")
    return "\n".join(str(path) for path in thing.fetch(directory)) or f"{name} needs no download"
