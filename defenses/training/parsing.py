"""Recipes as TOML: found by name, merged with what they extend and with settings, and read into dataclasses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from bench.core.fields import Wording, build
from bench.core.places import is_file
from bench.core.registry import suggestion
from bench.core.text import shown
from bench.core.toml import parse_toml, read_toml
from bench.core.types import UserError
from bench.models.stanzas import check_source

T = TypeVar("T")
_DEEPEST = 20
RECIPES = Path(__file__).parents[1] / "recipes"
_WORDING = Wording(
    unknown="recipe key {what}{field} is unknown: {remedy}",
    missing="recipe key {what}{field} is missing: give it in the recipe or by --set",
    value="recipe key {what}{field} is {value}: {remedy}",
)


def fault(where: str, what: str, remedy: str) -> UserError:
    """The error for a bad key or value of a recipe."""
    return UserError(f"recipe key {where} {what}: {remedy}")


def part_of(kind: type[T], table: Any, where: str) -> T:
    """An instance of a dataclass from a table; `where` is the table's dotted name in the recipe.

    Raises:
        UserError: an unknown or a missing key, or a value of the wrong type or out of bounds.
    """
    if not isinstance(table, Mapping):
        raise fault(where, f"is {shown(table)}, not a table", f"write [{where}] and its keys below")
    hints = get_type_hints(kind)
    values = {key: _converted(value, hints.get(key, Any)) for key, value in table.items()}
    return build(kind, values, f"{where}." if where else "", _WORDING)


def _converted(value: Any, hint: Any) -> Any:
    """`value` as TOML means it for its field: a number for a text as it is written, a list as a tuple."""
    if get_origin(hint) is UnionType:
        (hint,) = (arm for arm in get_args(hint) if arm is not NoneType)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str and number:
        return str(value)
    if hint is float and number and abs(value) < 2**63:
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_converted(entry, get_args(hint)[0]) for entry in value)
    return value


def raw_recipe(named: str, settings: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """The merged tables of a recipe, what it extends and the settings; and how its path is written in a stanza.

    `extends = "NAME"` starts from another recipe beside it or built in. Tables are merged key by key, but `[paper]` and
    a `[defense]` that names a defense replace the whole table.

    Raises:
        UserError: it cannot be found or read, or a setting is not key=value.
    """
    path = _find(named)
    table = _with_parents(path, ())
    if "name" in table:
        raise fault("name", "stands in the file", "a recipe has the name of its file: rename that, or give --set name=")
    table["name"] = path.stem
    for setting in settings:
        _apply(table, setting)
    if not isinstance(table["name"], str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", table["name"]):
        raise fault("name", f"is {shown(table['name'])}", "use at most 100 letters, digits, - and _")
    _check_arch(table, path)
    return table, f"defenses/recipes/{path.name}" if path.parent == RECIPES else str(named)


def _check_arch(table: Mapping[str, Any], path: Path) -> None:
    """Hold the architecture of a recipe to what a stanza may name, since its stanza will."""
    model = table.get("model")
    if isinstance(model, Mapping) and isinstance(arch := model.get("arch"), str):
        try:
            check_source(arch, path.parent)
        except UserError as refusal:
            raise UserError(f"recipe {path}: model.{refusal}") from refusal


def names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _find(named: str, beside: Path | None = None) -> Path:
    places = [Path(named), *([beside / f"{named}.toml"] if beside else []), RECIPES / f"{named}.toml"]
    for place in places:
        if is_file(place):
            return place
    if "/" in named or named.endswith(".toml"):
        raise UserError(f"recipe {named} does not exist: check the path, or name a built-in one")
    raise UserError(f"unknown recipe {shown(named)}: {suggestion(named, names())}")


def _with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen or len(seen) > _DEEPEST:
        raise UserError(f"recipe {path} extends itself, or too many others: remove one extends")
    table = read_toml(path)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str) or not parent:
        raise fault("extends", f"is {shown(parent)}", "name a recipe")
    return _merged(_with_parents(_find(parent, path.parent), (*seen, path)), table)


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
        raise UserError(f"setting {shown(setting)} is not key=value: write one such as train.epochs=5")
    try:
        value: Any = parse_toml(f"value = {written}")["value"]
    except ValueError:
        value = written.strip()
    for key in path:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise fault(dotted, f"is inside {key}, which is a value", "correct the setting")
        table = inner
    table[last] = value
