"""Stanzas, the entries of a `checkpoints.toml`, read into `Checkpoint`.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.eps import parse_eps, threat_model
from bench.core.fields import Wording, build
from bench.core.outline import outlines
from bench.core.places import is_file, shipped
from bench.core.registry import model_sources, suggestion
from bench.core.text import shown
from bench.core.toml import read_tables, read_toml
from bench.core.types import NORMS, Checkpoint, ThreatModel, UserError

_FILE = "checkpoints.toml"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
_WORDING = Wording(
    unknown="{what}: unknown key {field!r}: {remedy}",
    missing="{what} has no {field}: name an architecture (bench list models) or a file.py:factory",
    value="{what}: {field} must be {must}: see the built-in checkpoints.toml for examples",
)


def built_in() -> Path:
    """The registry that comes with the program: inside an installed copy, or at the top of a checkout."""
    return shipped(_FILE)


@dataclass(frozen=True)
class Registry:
    """All models by name, the faults of the stanzas that cannot be used, and the built-in names that are replaced."""

    models: Mapping[str, Checkpoint]
    faults: Mapping[str, str]
    replaced: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Checkpoint:
        """The stanza of a model.

        Raises:
            UserError: there is none of this name, or it has a fault.
        """
        if name in self.faults:
            raise UserError(self.faults[name])
        if name not in self.models:
            remedy = "add a factory, as in file.py:make" if name.endswith(".py") else suggestion(name, list(self))
            raise UserError(f"unknown model {shown(name)}: {remedy}")
        return self.models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.models))


def registry() -> Registry:
    """The built-in models, then those of `checkpoints.toml` in the working directory, which may replace them.

    A stanza with a fault stands among the faults, and so does a file that cannot be read at all, under its path.
    """
    first, second = built_in(), Path.cwd() / _FILE
    there = is_file(first)
    known = _survey(first) if there else Registry({}, {})
    if not os.path.lexists(second) or (there and is_file(second) and first.samefile(second)):
        return known
    own = _survey(second)
    names = {*own.models, *own.faults}
    kept = {name: model for name, model in known.models.items() if name not in names}
    return Registry(
        {**kept, **own.models}, {**known.faults, **own.faults}, frozenset(names & {*known.models, *known.faults})
    )


def read(path: Path) -> dict[str, Checkpoint]:
    """Read the stanzas of a `checkpoints.toml`, one `[name]` a model.

    Raises:
        UserError: the file is not TOML, or a stanza has an unknown key, a wrong type, no arch, or a bad name or eps.
    """
    return {name: _read(path, name, entry) for name, entry in read_toml(path).items()}


def _survey(path: Path) -> Registry:
    """The stanzas of a file, each by itself."""
    try:
        tables, damaged = read_tables(path)
    except UserError as fault:
        return Registry({}, {str(path): str(fault)})
    models: dict[str, Checkpoint] = {}
    faults = {name or str(path): text for name, text in damaged.items()}
    for name, entry in tables.items():
        try:
            models[name] = _read(path, name, entry)
        except UserError as fault:
            faults[name] = str(fault)
    return Registry(models, faults)


def _read(path: Path, name: str, entry: Any) -> Checkpoint:
    where = f"{path}: model {shown(name)}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a table: write [{name}] above its keys")
    if not re.fullmatch(_NAME, name):
        raise UserError(f"{where}: a name is at most 100 letters, digits and . _ + -: choose another")
    values = dict(entry)
    if "trained_for" in values:
        values["trained_for"] = _threat_model(where, values["trained_for"])
    checkpoint = build(Checkpoint, values, where, _WORDING, name=name, home=path.parent.resolve())
    if not checkpoint.arch:
        raise UserError(_WORDING.missing.format(what=where, field="arch"))
    try:
        check_source(checkpoint.arch, checkpoint.home)
    except UserError as fault:
        raise UserError(f"{where}: {fault}") from fault
    sha256 = checkpoint.sha256.lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{where}: sha256 is not 64 hexadecimal digits: run sha256sum on the weights")
    return replace(checkpoint, sha256=sha256)


def check_source(arch: str, home: Path) -> None:
    """Hold an architecture that a file names to what a file may name: a registered one, or a `file.py:factory` by it.

    Models of a source, such as `timm:resnet18`, are data, and may lie anywhere; but a TorchScript file is a program.
    Whoever wrote the file may then run no code but what lies beside it.

    Args:
        arch: as the file has it.
        home: the file's folder.

    Raises:
        UserError: it is a factory of an installed package, or of a file that is not below `home`.
    """
    place, colon, factory = arch.rpartition(":")
    kind, _, name = arch.partition(":")
    runs_code = _sources().get(kind) if colon else False
    if runs_code is False:
        return
    if runs_code:
        place = name.partition("(")[0]
    elif not place.endswith(".py") or not factory.isidentifier():
        raise UserError(
            f"arch {shown(arch)} is code that a file may not name: name a registered architecture or a file.py:factory "
            "beside it, or give this one on the command line, by --model"
        )
    try:
        inside = (home / place).resolve().is_relative_to(home.resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if Path(place).is_absolute() or place.startswith("~") or not inside:
        raise UserError(
            f"arch {shown(arch)} lies outside the folder of the file that names it: put it beside that file"
        )


def _sources() -> dict[str, bool]:
    """The sources of models, and whether loading one of theirs runs what its file holds."""
    known = outlines("model_sources", model_sources.package)
    return {outline.name: bool(outline.attributes["runs_code"]) for outline in known}


def _threat_model(where: str, entry: Any) -> ThreatModel:
    if not isinstance(entry, dict) or not {"norm"} <= set(entry) <= {"norm", "eps"} or entry["norm"] not in NORMS:
        raise UserError(f'{where}: trained_for is not a norm and an eps: write {{ norm = "linf", eps = "8/255" }}')
    eps = entry.get("eps")
    if eps is None:
        return ThreatModel(entry["norm"], None)
    if isinstance(eps, bool) or not isinstance(eps, int | float | str):
        raise UserError(f'{where}: eps {shown(eps)} is not a number: write one such as "8/255" or 0.3')
    written = eps if isinstance(eps, str) else shown(eps)
    try:
        return threat_model(entry["norm"], parse_eps(written), written)
    except UserError as fault:
        raise UserError(f"{where}: {fault}") from fault
