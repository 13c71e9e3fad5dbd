"""Frozen dataclasses as JSON objects: each key checked when read, unknown keys and the order of keys kept.

A file that holds one was written by somebody: numbers are held to the bounds of their field, texts to one line without
control characters, because names end in tables, on terminals and in messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from bench.core.text import is_plain
from bench.core.types import UserError
from bench.core.values import Bounds, described, fits

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
_KEPT = ("unknown", "order")


def optional(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A field that a new object does not write while it has its default; bounds as for `number`."""
    return field(default=default, metadata={"optional": True, "bounds": Bounds(low=low, high=high)})


def number(default: Any = MISSING, low: float | None = None, high: float | None = None) -> Any:
    """A field of numbers, each finite and from `low` to `high`."""
    return field(default=default, metadata={"bounds": Bounds(low=low, high=high)})


def free_text(default: str) -> Any:
    """A text that nothing shows, and that may be more than a line."""
    return field(default=default, metadata={"free": True})


@dataclass(frozen=True, kw_only=True)
class JsonRecord:
    """A JSON object whose known keys are the fields that a subclass takes, in their order, those of `LAST` at the end.

    A field without a default is a key that must be there. `unknown` holds the keys that this version does not know;
    `order` the keys as they stood where the object was read, so that it is written back as it was.
    """

    LAST: ClassVar[tuple[str, ...]] = ()

    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)
    order: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "record") -> Self:
        """The record in a JSON object; `source` names it in errors.

        Raises:
            UserError: a key is missing, or its value is of another kind.
        """
        kinds, known = _kinds(cls), dict[str, Any]()
        for name, declared in _declared(cls).items():
            if name in values:
                known[name] = _decoded(kinds[name], values[name], source, name)
                _held(known[name], kinds[name], declared, source)
            elif _default(declared) is MISSING:
                raise UserError(f"{source} is damaged: it has no {name!r}; make it again")
        unknown = {name: value for name, value in values.items() if name not in known}
        return cls(**known, unknown=unknown, order=tuple(values))

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, made of dicts and lists: keys as they were read, then those that were set since."""
        declared = _declared(type(self))
        fresh = [name for name, known in declared.items() if not known.metadata.get("optional")]
        keys = dict.fromkeys(self.order or sorted(fresh, key=lambda name: name in self.LAST))
        keys |= dict.fromkeys(name for name, known in declared.items() if getattr(self, name) != _default(known))
        known = {name: _encoded(getattr(self, name)) for name in declared}
        return {name: self.unknown[name] if name in self.unknown else known[name] for name in [*keys, *self.unknown]}


_HINTS = dict[type[Any], dict[str, Any]]()


def _kinds(cls: type[Any]) -> dict[str, Any]:
    """The kinds of a class's fields; they are looked up once, because that is slow."""
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def _declared(cls: type[JsonRecord]) -> dict[str, Field[Any]]:
    return {known.name: known for known in fields(cls) if known.init and known.name not in _KEPT}


def _default(known: Field[Any]) -> Any:
    return known.default if known.default_factory is MISSING else known.default_factory()


def _decoded(kind: Any, value: Any, source: str, key: str) -> Any:
    """A JSON value as the kind that a field is declared with."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in parts):
        return value
    if origin in (Union, UnionType):
        (some,) = [part for part in parts if part is not NoneType]
        return None if value is None else _decoded(some, value, source, key)
    if origin is tuple and isinstance(value, list):
        if parts[-1] is not ...:
            return _pair(parts, value, source, key)
        return tuple([_decoded(parts[0], item, source, f"{key}[{place}]") for place, item in enumerate(value)])
    if isinstance(value, dict) and origin is not None and origin is not tuple:
        return {name: _decoded(parts[1], item, source, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, JsonRecord):
        return kind.from_dict(value, f"{source}: {key}")
    if kind in _KINDS and (type(value) is kind or (kind is float and type(value) is int)):
        return value
    wanted = "one of " + ", ".join(parts) if origin is Literal else "a list" if origin is tuple else "an object"
    wanted = _KINDS.get(kind, wanted)
    raise UserError(f"{source} is damaged: {key} is {_shown(value)}, not {wanted}; make it again")


def _pair(parts: tuple[Any, ...], value: list[Any], source: str, key: str) -> tuple[Any, ...]:
    if len(value) != len(parts):
        raise UserError(f"{source} is damaged: {key} is {_shown(value)}, not {len(parts)} values; make it again")
    return tuple(_decoded(part, item, source, key) for part, item in zip(parts, value, strict=True))


def _held(value: Any, kind: Any, declared: Field[Any], source: str) -> None:
    """Refuse what no field of its sort may hold.

    Raises:
        UserError: a number out of bounds, or a text with a control character.
    """
    bounds = declared.metadata.get("bounds")
    if bounds and value is not None and not isinstance(value, JsonRecord) and not _within(value, bounds):
        wanted = described(float if kind not in (int, float) else kind, bounds)
        raise UserError(f"{source} is damaged: {declared.name} is {_shown(value)}, not {wanted}; make it again")
    if not declared.metadata.get("free") and not all(map(is_plain, _texts(value))):
        raise UserError(f"{source} is damaged: {declared.name} holds a control character; make it again")


def _within(value: Any, bounds: Bounds) -> bool:
    """Whether every number in a value is finite and within bounds."""
    if isinstance(value, Mapping):
        return all(_within(item, bounds) for item in value.values())
    if isinstance(value, tuple):
        return all(_within(item, bounds) for item in value)
    return not isinstance(value, int | float) or fits(value, Any, bounds) or isinstance(value, bool)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, keys of objects included; records in it have checked their own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(name)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _encoded(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _encoded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
