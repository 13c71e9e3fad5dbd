"""What a package registers, read from its source: nothing is imported, so that a list costs no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outline:
    """A registered class or function: its name, the first line of its docstring, class attributes and fields.

    `attributes` are class attributes with plain values, inherited ones included; `fields` the dataclass fields that a
    user may set, with their defaults.
    """

    name: str
    summary: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def outlines(registry: str, package: str) -> list[Outline]:
    """Everything that decorators `@registry.register("name")` in the modules of a package name, sorted by name."""
    known = [outline for path in _sources(package) for outline in _registered(registry, path)]
    return sorted(known, key=lambda outline: outline.name)


def _sources(package: str) -> list[Path]:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return sorted(path for place in places or [] for path in Path(place).rglob("*.py"))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _registered(registry: str, path: Path) -> Iterator[Outline]:
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (name := _name(registry, node)):
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            attributes, fields = _members(node, path) if isinstance(node, ast.ClassDef) else ({}, {})
            yield Outline(name, summary, attributes, fields)


def _name(registry: str, node: ast.ClassDef | ast.FunctionDef) -> str:
    """The name that a decorator `@registry.register("name")` gives, or nothing."""
    for call in node.decorator_list:
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "register"
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == registry
            and isinstance(call.args[0], ast.Constant)
        ):
            return str(call.args[0].value)
    return ""


def _members(node: ast.ClassDef, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Class attributes and settable fields, those of the bases first, as dataclasses order them."""
    attributes: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base  # a generic one's name
        if isinstance(base, ast.Name) and (there := _class(base.id, path)):
            inherited = _members(*there)
            attributes |= inherited[0]
            fields |= inherited[1]
    for line in node.body:
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
            continue
        if "ClassVar" in ast.unparse(line.annotation):
            attributes[line.target.id] = _value(line.value)
        elif not _is_bound(line.value):
            fields[line.target.id] = _value(line.value)
    return attributes, fields


def _class(name: str, path: Path) -> tuple[ast.ClassDef, Path] | None:
    """Where a class is defined that a module defines or imports from this program."""
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            module = (node.module or "").split(".")
            root = next((parent for parent in path.parents if parent.name == module[0]), None)
            source = root.parent.joinpath(*module).with_suffix(".py") if root else None
            return _class(name, source) if source and source.is_file() else None
    return None


def _is_bound(value: ast.expr | None) -> bool:
    """Whether a field is filled before a run and not by the user: `field(metadata={"bound": True})`."""
    return isinstance(value, ast.Call) and any(
        word.arg == "metadata" and "'bound': True" in ast.unparse(word.value) for word in value.keywords
    )


def _value(value: ast.expr | None) -> Any:
    """A default: a plain value, the first argument of `bounded(…)`, `default=` of `field(…)`, or as it is written."""
    if isinstance(value, ast.Call):
        given = [*value.args[:1], *(word.value for word in value.keywords if word.arg == "default")]
        return _value(given[0]) if given else ast.unparse(value)
    if value is None:
        return None
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div):
        return _value(value.left) / _value(value.right)
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)
