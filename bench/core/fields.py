"""A probe or detector from what a user wrote: a frozen dataclass with the fields of a spec."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from bench.core import registry
from bench.core.specs import AttackSpec
from bench.core.types import UserError


@dataclass(frozen=True)
class Bounds:
    """What values a field may take: numbers from `low` (or above `above`) to `high`, or one of `choices`."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()


def bounded(
    default: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass field with a default and the bounds that `check_value` holds users' values to.

    The bounds belong to the field, so that every way of setting it is held to the same ones.
    """
    return field(default=default, metadata={"bounds": Bounds(low, above, high, choices)})


def from_spec(word: str, known: registry.Registry[Any], spec: AttackSpec) -> Any:
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


def settable(kind: type[Any]) -> list[str]:
    """The fields of an attack class that a user may set."""
    return [field.name for field in fields(kind) if field.init and not field.metadata.get("bound")]


def _check_value(label: str, field: str, default: Any, value: Any) -> None:
    """Refuse a value of another type than the field's default, counts below 1, and negative numbers."""
    counts = isinstance(default, int) and not isinstance(default, bool)
    numbers = isinstance(default, float) or default is None
    if isinstance(default, bool):
        right = isinstance(value, bool)
    elif isinstance(default, str):
        right = isinstance(value, str)
    elif counts:
        right = isinstance(value, int) and not isinstance(value, bool)
    else:
        right = not numbers or value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if not right:
        raise UserError(f"attack {label!r}: {field} cannot be {value!r}: its default is {default!r}")
    if counts and value < 1 and default >= 1:
        raise UserError(f"attack {label!r}: {field} must be at least 1, not {value}")
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
        raise UserError(f"attack {label!r}: {field} must be a finite number of at least 0, not {value}")
