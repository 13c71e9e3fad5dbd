"""The runs behind results/, from the lists beside this file: makes what is missing, one after another.

    python -m experiments.make                 # everything that has no folder yet, or was interrupted
    python -m experiments.make --list mat      # what is missing of the groups named mat, as commands
    python -m experiments.make --again digits_accuracy

A list is a TOML file of groups. A group is one kind of run for several models: the folder of each is
`results/runs/MODEL-PART`, or `results/runs/MODEL` where the group names no part. Settings are options of `bench run`,
`bench sweep-eps` or `bench detect`; `probes` keeps the images, looks at them with `bench probe` and throws them away.
`[[group.where]]` changes settings for the models that match one of its patterns. `[models]` names lists of models and
`[words]` texts that settings take up as `{word}`; `detectors` names detectors, or encoders of the `er` detector, each
of which gets a folder of its own.

Runs are made under `runs/made/` and put in place when all are: a run that replaces another would otherwise leave the
checkout changed, and every record after it would say so.
"""

from __future__ import annotations

import gzip
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from bench.core.types import UserError
from bench.store.provenance import provenance

_HERE = Path(__file__).parent
_RUNS = Path("results/runs")
_STAGE = Path("runs/made")
"""Where runs are made, ignored by git; the commands name the same folders there as in the checkout."""
_GROUP = {"name", "models", "part", "command", "where", "baseline", "detectors"}
_SETTINGS = {"attacks", "attack", "fit_attack", "probes", "n", "norm", "eps", "seed"}
_OWN_VIEWS = ("table.*", "curve.*", "adversarial.npz", "losses.csv")
"""What can be made again from a run, and so is not kept."""


@dataclass(frozen=True)
class Piece:
    """One run of a list: where it goes, and the commands that make it."""

    group: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    baseline: bool

    @property
    def rows(self) -> Path:
        """The file that a finished run ends with."""
        return self.folder / ("scores.csv.gz" if self.commands[0][0] == "detect" else "verdicts.csv.gz")

    @property
    def is_made(self) -> bool:
        """Whether it is there, whole."""
        return self.rows.is_file()

    def staged(self) -> Piece:
        """The same where it is made."""
        return replace(self, folder=_STAGE / self.folder)


def pieces(content: Mapping[str, Any]) -> Iterator[Piece]:
    """Every run of a list.

    Raises:
        UserError: a group has an unknown key, or lacks its name, models or command.
    """
    for group in content["group"]:
        unknown = set(group) - _GROUP - _SETTINGS
        if unknown or not {"name", "models", "command"} <= set(group):
            raise UserError(f"group {group.get('name')!r}: give name, models, command, not {sorted(unknown)}")
        lists = content.get("models", {})
        for model in (model for name in group["models"] for model in lists.get(name, [name])):
            settings = _settings(group, model, content.get("words", {}))
            for detector in group.get("detectors", [""]):
                yield _piece(group, model, settings, detector)


def _settings(group: Mapping[str, Any], model: str, words: Mapping[str, str]) -> dict[str, str]:
    """The options of a group's command for one model, words filled in."""
    settings = {key: value for key, value in group.items() if key in _SETTINGS}
    for other in group.get("where", []):
        if any(fnmatch(model, pattern) for pattern in other["models"]):
            settings |= {key: value for key, value in other.items() if key != "models"}
    filled = {word: text.format(**words) for word, text in words.items()}
    return {key: str(value).format(**filled) for key, value in settings.items()}


def _piece(group: Mapping[str, Any], model: str, settings: Mapping[str, str], detector: str) -> Piece:
    part = f"detect-{detector}" if detector else group.get("part", "")
    folder = _RUNS / "-".join(name for name in (model, part) if name)
    words = [group["command"], "--model", model, "--out", str(folder)]
    if detector:
        words += ["--detector", detector if detector in ("kd", "lid") else f"er(encoder={detector!r})"]
    else:
        words.append("--resume")
    for key, value in settings.items():
        if key != "probes":
            words += ["-n" if key == "n" else f"--{key.replace('_', '-')}", value]
    commands = [tuple(words)]
    if "probes" in settings:
        commands = [(*words, "--save-adversarial"), ("probe", str(folder), "--probes", settings["probes"])]
    return Piece(group["name"], folder, tuple(commands), bool(group.get("baseline")))


def make(piece: Piece) -> None:
    """Run the commands of a piece where it is made, keep what cannot be made again, and pack it.

    Raises:
        UserError: a command failed.
    """
    made = piece.staged()
    if made.is_made:
        return
    if piece.commands[0][0] == "detect":
        shutil.rmtree(made.folder, ignore_errors=True)
    _STAGE.mkdir(parents=True, exist_ok=True)
    for words in piece.commands:
        if subprocess.run([sys.executable, "-m", "bench.cli", *words], cwd=_STAGE, check=False).returncode:
            raise UserError(f"{shlex.join(['bench', *words])} failed: see above")
    for pattern in _OWN_VIEWS:
        for path in made.folder.glob(pattern):
            path.unlink()
    plain = made.rows.with_suffix("")
    made.rows.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()


def put_in_place(piece: Piece) -> None:
    """Move what was made to where it belongs, in place of what was there."""
    shutil.rmtree(piece.folder, ignore_errors=True)
    piece.folder.parent.mkdir(parents=True, exist_ok=True)
    piece.staged().folder.rename(piece.folder)


def _wanted(names: tuple[str, ...]) -> list[Piece]:
    """The pieces of all lists whose group, folder or list a name is part of the beginning of; all without names."""
    known = [
        (path.stem, piece)
        for path in sorted(_HERE.glob("*.toml"))
        for piece in pieces(tomllib.loads(path.read_text(encoding="utf-8")))
    ]
    chosen = [
        piece
        for stem, piece in known
        if not names or any(word.startswith(names) for word in (stem, piece.group, piece.folder.name))
    ]
    if not chosen:
        raise UserError(f"no group, run or list is named {' or '.join(names)}: see experiments/*.toml")
    return chosen


@click.command()
@click.argument("names", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Print the commands of what is missing, and make nothing.")
@click.option("--again", is_flag=True, help="Make what is there again.")
@click.option("--dirty", is_flag=True, help="Run from a checkout with uncommitted changes; the records say so.")
@click.option("--baseline", is_flag=True, help="Store the runs of the baseline's groups in results/baseline.csv.")
def main(names: tuple[str, ...], only_list: bool, again: bool, dirty: bool, baseline: bool) -> None:
    """Make the runs behind results/ that are missing."""
    chosen = _wanted(names)
    missing = [piece for piece in chosen if again or not piece.is_made]
    if only_list:
        for piece in missing:
            click.echo("\n".join(shlex.join(["bench", *words]) for words in piece.commands))
        return
    if missing and not dirty and provenance()["dirty"]:
        raise UserError("the checkout has uncommitted changes, and the records would say so: use a clean clone")
    for place, piece in enumerate(missing, 1):
        click.echo(f"{place} of {len(missing)}: {piece.folder}", err=True)
        make(piece)
    for piece in missing:
        put_in_place(piece)
    if baseline:
        added = [word for piece in chosen if piece.baseline for word in ("--add", str(piece.folder))]
        subprocess.run([sys.executable, "-m", "bench.cli", "check", *added], check=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as fault:
        sys.exit(f"experiments: {fault}")
