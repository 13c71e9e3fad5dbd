"""Stanzas, the entries of a `checkpoints.toml`: read into `Checkpoint`, and written from it.

Importing this module does not import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Comment, InlineTable, Item, Table, Whitespace

from bench.core.fields import Wording, build, settable
from bench.core.files import one_line, shipped
from bench.core.specs import parse_eps, threat_model
from bench.core.text import shown
from bench.core.toml import read_toml
from bench.core.types import NORMS, Checkpoint, ThreatModel, UserError

_FILE = "checkpoints.toml"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_WORDING = Wording(
    unknown="{what}: unknown key {field!r}: {remedy}",
    missing="{what} has no {field}: name an architecture (bench list models) or a file.py:factory",
    value="{what}: {field} must be {must}: see the built-in checkpoints.toml for examples",
)


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
    return {name: _read(path, name, entry) for name, entry in read_toml(path).items()}


def _read(path: Path, name: str, entry: Any) -> Checkpoint:
    where = f"{path}: model {shown(name)}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a table: write [{name}] above its keys")
    if not re.fullmatch(_NAME, name):
        raise UserError(f"{where}: a name is letters, digits and . _ + -: choose another")
    values = dict(entry)
    if "trained_for" in values:
        values["trained_for"] = _threat_model(where, values["trained_for"])
    checkpoint = build(Checkpoint, values, where, _WORDING, name=name, home=path.parent.resolve())
    if not checkpoint.arch:
        raise UserError(_WORDING.missing.format(what=where, field="arch"))
    sha256 = checkpoint.sha256.lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{where}: sha256 is not 64 hexadecimal digits: run sha256sum on the weights")
    return replace(checkpoint, sha256=sha256)


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


def text_of(checkpoint: Checkpoint) -> str:
    """A stanza as TOML, a line a key; keys that say nothing are left out."""
    return tomlkit.dumps(tomlkit.document().add(tomlkit.key(checkpoint.name), _table(checkpoint)))


def with_stanza(registry: str, checkpoint: Checkpoint) -> str:
    """The text of a `checkpoints.toml` with one stanza replaced, or added at its end; the rest stays as it was.

    Raises:
        UserError: the text is not TOML.
    """
    try:
        document = tomlkit.parse(registry if registry.endswith("\n") or not registry else f"{registry}\n")
    except TOMLKitError as fault:
        raise UserError(f"the registry is not TOML ({one_line(fault)}): correct that line") from None
    old, new = document.get(checkpoint.name), _table(checkpoint)
    if isinstance(old, Table):
        document[checkpoint.name] = new
        end, body = _end(old), new.value.body
        if end and isinstance(body[-1][1], Whitespace):  # a blank line that is put before the next table
            body.pop()
        for item in end:
            new.add(item)
    else:
        if old is not None:  # its parts lie apart, or it is written inline: written whole, at the end
            document.remove(checkpoint.name)
        if document.body:
            document.add(tomlkit.nl())
        document.add(tomlkit.key(checkpoint.name), new)
    return tomlkit.dumps(document).rstrip("\n") + "\n"


def _end(table: Table) -> list[Whitespace | Comment]:
    """The comments and blank lines behind the last key of a table: they belong to what follows."""
    result: list[Whitespace | Comment] = []
    for _, item in reversed(table.value.body):
        if not isinstance(item, Whitespace | Comment):
            return _end(item) if isinstance(item, Table) and not result else result[::-1]
        result.append(item)
    return result[::-1]


def _table(checkpoint: Checkpoint) -> Table:
    table = tomlkit.table()
    for key, value in _entries(checkpoint):
        table.add(key, _item(value))
    return table


def _entries(checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    for key in settable(Checkpoint):
        value = getattr(checkpoint, key)
        if isinstance(value, ThreatModel):
            eps = {} if value.eps is None else {"eps": value.written or str(value.eps)}
            yield key, {"norm": value.norm, **eps}
        elif value:
            yield key, value


def _item(value: Any) -> Item:
    """A value on one line, tables inside braces with a space at each end."""
    if not isinstance(value, Mapping):
        item: Item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
        return item
    inline: InlineTable = tomlkit.inline_table()
    items = {key: _item(inner) for key, inner in value.items()}
    for key, inner in items.items():
        inline.add(key, inner)
    if items:
        first, *_, last = [*items.values(), *items.values()]
        first.trivia.indent, last.trivia.trail = " ", " "
    return inline
