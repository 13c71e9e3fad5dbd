"""A probe or detector from what a user wrote: a frozen dataclass with the fields of a spec."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from bench import registry
from bench.specs import AttackSpec
from bench.types import UserError


def made(word: str, known: registry.Registry[Any], spec: AttackSpec) -> Any:
    """The entry of a registry that a spec names, with the spec's fields; `word` says in errors what it is.

    Raises:
        UserError: unknown name or field, or a value of another kind than the field's default.
    """
    kind = known[spec.name]
    defaults: dict[str, Any] = {field.name: field.default for field in fields(kind)}
    for name, value in spec.fields:
        if name not in defaults:
            remedy = registry.suggestion(name, [*defaults]) if defaults else "it has none"
            raise UserError(f"{word} {spec.name!r} has no field {name!r}: {remedy}")
        if not _fits(value, defaults[name]):
            raise UserError(f"{word} {spec.name!r}: {name} cannot be {value!r}: its default is {defaults[name]!r}")
    return kind(**dict(spec.fields))


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of its default's kind; numbers, alone or in a tuple, must be above 0, or 0 by default."""
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_fits(one, default[0]) for one in value)
    number = int | float if isinstance(default, float) else int
    right = isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    return right and (value > 0 or value == default)
