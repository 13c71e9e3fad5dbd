"""The stanzas of `checkpoints.toml`: what trained models there are. Importing this module does not import torch."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

from bench.core.files import one_line, shipped
from bench.core.registry import suggestion
from bench.core.specs import parse_eps
from bench.core.types import NORMS, Checkpoint, ThreatModel, UserError

_FILE = "checkpoints.toml"
_TABLES = ("args", "trained_with", "rename", "published")
_KEYS = sorted({field.name for field in fields(Checkpoint)} - {"name", "home"})
_HOW = "see the built-in checkpoints.toml for examples"


def built_in() -> Path:
    """The registry that comes with the program: inside an installed copy, or at the top of a checkout."""
    return shipped(_FILE)


def registry() -> dict[str, Checkpoint]:
    """All known models by name: the built-in ones, then those of `checkpoints.toml` in the working directory.

    Raises:
        UserError: a file has a fault (see `read`).
    """
    first, second = built_in(), Path.cwd() / _FILE
    known = read(first) if first.is_file() else {}
    if second.is_file() and not (first.is_file() and first.samefile(second)):
        known |= read(second)
    return known


def read(path: Path) -> dict[str, Checkpoint]:
    """Read the stanzas of a `checkpoints.toml`, one `[name]` a model.

    Raises:
        UserError: the file is not TOML, or a stanza has an unknown key, a wrong type, no arch, or a bad name or eps.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise UserError(f"{path} cannot be read ({one_line(fault)}): check the path") from fault
    except ValueError as fault:
        raise UserError(f"{path} is not TOML ({one_line(fault)}): correct that line") from fault
    return {name: _stanza(path, name, entry) for name, entry in content.items()}


def _stanza(path: Path, name: str, entry: object) -> Checkpoint:
    where = f"{path}: model {name!r}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a table: write [{name}] above its keys")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise UserError(f"{where}: a name is letters, digits and . _ + -: choose another")
    for key, value in entry.items():
        if key not in _KEYS:
            raise UserError(f"{where}: unknown key {key!r}: {suggestion(key, _KEYS)}")
        if key != "trained_for" and not isinstance(value, dict if key in _TABLES else str):
            raise UserError(f"{where}: {key} must be a {'table' if key in _TABLES else 'string'}: {_HOW}")
    if not entry.get("arch"):
        raise UserError(f"{where} has no arch: name an architecture (bench list models) or a file.py:factory")
    sha256 = entry.get("sha256", "").lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{where}: sha256 is not 64 hexadecimal digits: run sha256sum on the weights")
    values = {**entry, "sha256": sha256, "trained_for": _threat_model(where, entry.get("trained_for"))}
    return Checkpoint(name=name, home=path.parent.resolve(), **values)


def _threat_model(where: str, entry: object) -> ThreatModel | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or not {"norm"} <= set(entry) <= {"norm", "eps"} or entry["norm"] not in NORMS:
        raise UserError(f'{where}: trained_for is not a norm and an eps: write {{ norm = "linf", eps = "8/255" }}')
    eps = entry.get("eps")
    if eps is None:
        return ThreatModel(entry["norm"], None)
    if isinstance(eps, bool) or not isinstance(eps, int | float | str):
        raise UserError(f'{where}: eps {eps!r} is not a number: write one such as "8/255" or 0.3')
    try:
        return ThreatModel(entry["norm"], parse_eps(str(eps)), str(eps))
    except UserError as fault:
        raise UserError(f"{where}: {fault}") from fault
