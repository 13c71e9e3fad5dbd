"""Stanzas as text: a `Checkpoint` as TOML, alone or in the text of a `checkpoints.toml`.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Comment, InlineTable, Item, Table, Whitespace

from bench.core.fields import settable
from bench.core.files import one_line
from bench.core.types import Checkpoint, ThreatModel, UserError


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
    except (TOMLKitError, RecursionError, ValueError) as fault:
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
