"""Dataclasses from what users write: fields by name, values of the right type and within their bounds.

Attacks, probes and detectors of a spec, recipes and stanzas are all made here, so that a value is held to the same
bounds wherever it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from bench.core.registry import suggestion
from bench.core.text import shown
from bench.core.types import UserError
from bench.core.values import Bounds, among, described, fits

T = TypeVar("T")


def bounded(
    default: Any = MISSING,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
) -> Any:
    """A dataclass field, with a default if one is given, and the bounds that `check_value` holds users' values to.

    The bounds belong to the field, so that every way of setting it is held to the same ones.
    """
    return field(default=default, metadata={"bounds": Bounds(low, above, high, choices)})


@dataclass(frozen=True)
class Wording:
    """How faults in one kind of source are told; each text may use {what}, {field}, and what it is given besides."""

    unknown: str = "{what} has no field {field!r}: {remedy}"
    missing: str = "{what} has no {field}: give it"
    value: str = "{what}: {field} cannot be {value}: {remedy}"


def settable(kind: type[Any]) -> list[str]:
    """The fields of a dataclass that a user may set."""
    return [part.name for part in fields(kind) if part.init and not part.metadata.get("bound")]


def recorded(kind: type[Any]) -> list[str]:
    """The fields of a dataclass that a record names: those that a user may set, and those bound for the record."""
    return [*settable(kind), *(part.name for part in fields(kind) if part.metadata.get("recorded"))]


def build(kind: type[T], values: Mapping[str, Any], what: str, wording: Wording = Wording(), **given: Any) -> T:
    """An instance of a dataclass with the values that a user wrote.

    Args:
        kind: the dataclass. Its fields' annotations, defaults and metadata (see `bounded`) say what may be written.
        values: values by field.
        what: what is being made, as errors name it.
        wording: the errors' texts.
        given: fields that the program fills itself, which are not checked.

    Raises:
        UserError: an unknown or a missing field, or a value of another type or out of bounds.
    """
    check_names(kind, values, what, wording)
    for part in fields(kind):  # type: ignore[arg-type]
        if part.name in values:
            check_value(what, part, values[part.name], hint_of(kind, part), wording)
        elif part.init and part.name not in given and part.default is MISSING and part.default_factory is MISSING:
            raise UserError(wording.missing.format(what=what, field=part.name))
    return kind(**values, **given)


def check_names(kind: type[Any], names: Mapping[str, Any], what: str, wording: Wording = Wording()) -> None:
    """Refuse a name that is no field of a dataclass, or none that a user may set.

    Raises:
        UserError: there is one; the text suggests its neighbours.
    """
    known = settable(kind)
    for name in names:
        if name not in known:
            remedy = suggestion(name, sorted(known)) if known else "it has none"
            raise UserError(wording.unknown.format(what=what, field=name, remedy=remedy))


def check_value(what: str, part: Field[Any], value: Any, hint: Any = Any, wording: Wording = Wording()) -> None:
    """Refuse a value that a field cannot take.

    Args:
        what: what the field belongs to, as errors name it.
        part: the field. Without bounds of its own, counts that are at least 1 by default must be at least 1, and other
            numbers at least 0 unless they are negative by default.
        value: what was written.
        hint: the field's type; Any leaves it to the default.
        wording: the error's text.

    Raises:
        UserError: it is of another type, or out of bounds.
    """
    hint = _of_default(part.default) if hint is Any else hint
    bounds = part.metadata.get("bounds") or _usual_bounds(part.default)
    choices = bounds.choices or (get_args(hint) if get_origin(hint) is Literal else ())
    if choices:
        holds, must = among(value, choices), ""
        remedy = suggestion(value if isinstance(value, str) else "", [str(choice) for choice in choices])
    else:
        holds, must = fits(value, hint, bounds), described(hint, bounds)
        remedy = f"give {must}"
    if not holds:
        text = {"what": what, "field": part.name, "value": shown(value)}
        raise UserError(wording.value.format(**text, remedy=remedy, must=must))


def hint_of(kind: type[Any], part: Field[Any]) -> Any:
    """The type that a field is annotated with; Any where the annotation cannot be read, as in some plug-ins."""
    try:
        return get_type_hints(kind).get(part.name, Any)
    except Exception:  # whatever a user's annotation raises
        return Any


def _of_default(default: Any) -> Any:
    """The type of a field that its annotation leaves open."""
    if default is None:
        return float | None
    if isinstance(default, tuple) and default:
        return tuple[_of_default(default[0]), ...]  # type: ignore[misc]
    return type(default) if isinstance(default, bool | int | float | str | tuple) else Any


def _usual_bounds(default: Any) -> Bounds:
    first = default[0] if isinstance(default, tuple) and default else default
    if not isinstance(first, int | float):
        return Bounds(low=0)
    if first < 0:
        return Bounds()
    return Bounds(low=1 if isinstance(first, int) and first >= 1 else 0)
