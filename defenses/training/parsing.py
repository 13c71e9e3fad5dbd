"""TOML tables into frozen dataclasses: unknown keys refused, values held to the fields' types."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from bench.core.registry import suggestion
from bench.core.types import UserError

T = TypeVar("T")
RECIPES = Path(__file__).parents[1] / "recipes"


def fault(where: str, what: str, remedy: str) -> UserError:
    """The error for a bad key or value of a recipe."""
    return UserError(f"recipe key {where} {what}: {remedy}")


def build(kind: type[T], table: Any, where: str) -> T:
    """An instance of a dataclass from a table; `where` is the table's dotted name in the recipe.

    Raises:
        UserError: an unknown or a missing key, or a value of the wrong type.
    """
    if not isinstance(table, Mapping):
        raise fault(where, f"is {table!r}, not a table", f"write [{where}] and its keys below")
    hints = get_type_hints(kind)
    known = {part.name: part for part in fields(kind)}  # type: ignore[arg-type]
    dot = f"{where}." if where else ""
    for key in table:
        if key not in known:
            raise fault(f"{dot}{key}", "is unknown", suggestion(key, sorted(known)))
    missing = [
        name
        for name, part in known.items()
        if name not in table and part.default is MISSING and part.default_factory is MISSING
    ]
    if missing:
        raise fault(f"{dot}{missing[0]}", "is missing", "give it in the recipe or by --set")
    return kind(**{key: _fitted(value, hints[key], f"{dot}{key}") for key, value in table.items()})


def _fitted(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type of its field: a number where a text is wanted is kept as written, a list becomes a tuple."""
    if get_origin(hint) is UnionType:
        (hint,) = (arm for arm in get_args(hint) if arm is not NoneType)
    origin, number = get_origin(hint) or hint, isinstance(value, int | float) and not isinstance(value, bool)
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise fault(where, f"is {value!r}", suggestion(str(value), [str(choice) for choice in get_args(hint)]))
    if origin is str and number:
        return str(value)
    if origin is float and number:
        return float(value)
    if origin is tuple and isinstance(value, list):
        return tuple(_fitted(entry, get_args(hint)[0], where) for entry in value)
    if origin is int and isinstance(value, bool):
        raise fault(where, f"is {value!r}", "give an int")
    if origin is Any or isinstance(value, Mapping if origin is Mapping else origin) or _is_mapping(value, origin):
        return value
    raise fault(where, f"is {value!r}", f"give a {getattr(origin, '__name__', origin)}")


def _is_mapping(value: Any, origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping)


def raw_recipe(named: str, settings: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """The merged tables of a recipe, what it extends and the settings; and how its path is written in a stanza.

    `extends = "NAME"` starts from another recipe beside it or built in. Tables are merged key by key, but `[paper]` and
    a `[defense]` that names a defense replace the whole table.

    Raises:
        UserError: it cannot be found or read, or a setting is not key=value.
    """
    path = _find(named)
    table = _with_parents(path, ())
    table["name"] = path.stem
    for setting in settings:
        _apply(table, setting)
    if not isinstance(table["name"], str) or not table["name"].replace("-", "").replace("_", "").isalnum():
        raise fault("name", f"is {table['name']!r}", "use letters, digits, - and _")
    return table, f"defenses/recipes/{path.name}" if path.parent == RECIPES else str(named)


def names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _find(named: str, beside: Path | None = None) -> Path:
    places = [Path(named), *([beside / f"{named}.toml"] if beside else []), RECIPES / f"{named}.toml"]
    for place in places:
        if place.is_file():
            return place
    if "/" in named or named.endswith(".toml"):
        raise UserError(f"recipe {named} does not exist: check the path, or name a built-in one")
    raise UserError(f"unknown recipe {named!r}: {suggestion(named, names())}")


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise UserError(f"recipe {path} extends itself: remove one extends")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"recipe {path} cannot be read: {error}") from None
    parent = table.pop("extends", None)
    if parent is None:
        return table
    return _merged(_with_parents(_find(str(parent), path.parent), (*seen, path)), table)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        replaces = key == "paper" or (key == "defense" and both and "name" in value)
        result[key] = _merged(result[key], value) if both and not replaces else value
    return result


def _apply(table: dict[str, Any], setting: str) -> None:
    """Set one dotted key, `train.epochs=5`; what is not TOML is text, so 8/255 needs no quotes."""
    dotted, equals, written = setting.partition("=")
    *path, last = dotted.strip().split(".")
    if not equals or not last or not all(path):
        raise UserError(f"setting {setting!r} is not key=value: write one such as train.epochs=5")
    try:
        value: Any = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written.strip()
    for key in path:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise fault(dotted, f"is inside {key}, which is a value", "correct the setting")
        table = inner
    table[last] = value
