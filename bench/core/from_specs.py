"""Attacks, probes and detectors from the specs that a user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.fields import build, check_names, check_value, hint_of, settable
from bench.core.files import one_line
from bench.core.outline import outlines
from bench.core.places import is_file
from bench.core.registry import suggestion
from bench.core.specs import Spec
from bench.core.text import shown
from bench.core.types import Attack, UserError
from bench.core.user_code import module_of
from bench.core.values import Bounds

_MUST_HAVE = {"attack": ("needs", "norms", "minimal"), "probe": ("needs",), "detector": ("needs",)}
"""The class attributes without which a user's class is not one of its kind."""


def from_spec(word: str, known: registry.Registry[Any], spec: Spec) -> Any:
    """The entry of a registry, or of a user's file, that a spec names, with the spec's fields.

    Args:
        word: what it is, as errors say it: "probe", "detector".
        known: the registry of its kind.
        spec: its name and the fields that the user set.

    Raises:
        UserError: unknown name or field, or a value of the wrong type or out of bounds.
    """
    kind = _from_file(word, spec.name) if ".py:" in spec.name else known[spec.name]
    return build(kind, dict(spec.fields), f"{word} {shown(str(spec))}")


def attack_from(spec: Spec, trained_with: Mapping[str, Mapping[str, Any]]) -> Attack:
    """The attack of a spec; fields that the user leaves out take what the model was trained with, else defaults.

    Args:
        spec: an attack's name, `library:name` of another library, or `file.py:Class`, and the fields that the user set.
        trained_with: fields by attack, as the model's stanza has them; what is no field of the attack is left aside.

    Raises:
        UserError: unknown attack or field, or a value of the wrong type or out of bounds, in the spec or the stanza.
    """
    kind = attack_named(spec.name)
    known, what = settable(kind), f"attack {shown(str(spec))}"
    try:
        check_names(kind, dict(spec.fields), what)
    except UserError as fault:
        if f"{spec.name}-custom" in registry.attacks:
            raise UserError(f"{fault}; {spec.name}-custom takes other parameters") from None
        raise
    inherited = {name: value for name, value in trained_with.get(spec.name, {}).items() if name in known}
    for part in fields(kind):
        if part.name in inherited:
            check_value(f"trained_with.{spec.name} of the model", part, inherited[part.name], hint_of(kind, part))
    attack: Attack = build(kind, {**inherited, **dict(spec.fields)}, what)
    return attack


def attack_named(name: str) -> type[Any]:
    """The class of an attack: of the registry, of another library (`foolbox:NAME`), or of a file (`file.py:Class`).

    Raises:
        UserError: there is none of this name.
    """
    if ".py:" in name:
        return _from_file("attack", name)
    library, colon, attack = name.partition(":")
    kind: type[Any] = registry.peers[library](attack) if colon else registry.attacks[name]
    return kind


def check_trained_with(trained_with: Mapping[str, Mapping[str, Any]], defense: str = "") -> None:
    """Refuse what a stanza says of a training if an attack could not take it: another one would be run than was meant.

    Names are those of attacks and defenses, or the model's own `defense`. Fields are the attack's, or what it names in
    `also_told` for tables. Values keep to the fields' bounds, and none names code, which a file may not.

    Raises:
        UserError: an unknown name or field, or a value of the wrong type or out of bounds.
    """
    for name, values in trained_with.items():
        what = f"trained_with.{name} of the model"
        if not isinstance(values, Mapping):
            raise UserError(f"{what} cannot be {shown(values)}: give a table of fields")
        for field_, value in values.items():
            if isinstance(value, str) and ":" in value:
                raise UserError(f"{what}: {field_} cannot be {shown(value)}: it names code: give it with --attacks")
            if not isinstance(value, str | int | float | list | tuple | None) or not _is_finite(value):
                raise UserError(f"{what}: {field_} cannot be {shown(value)}: give a finite number or a word")
        if name in registry.attacks:
            _check_fields(registry.attacks[name], values, what)
        elif ":" not in name and name != defense:
            known = {outline.name for outline in outlines("defenses", registry.defenses.package)}
            if name not in known:
                remedy = suggestion(name, sorted(known | set(registry.attacks)))
                raise UserError(f"trained_with of the model has no attack or defense {shown(name)}: {remedy}")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, int | float) or Bounds().hold(value)


def _check_fields(kind: type[Any], values: Mapping[str, Any], what: str) -> None:
    told = getattr(kind, "also_told", ())
    own = {name: value for name, value in values.items() if name not in told}
    check_names(kind, own, what)
    for part in fields(kind):
        if part.name in own:
            value = tuple(own[part.name]) if isinstance(own[part.name], list) else own[part.name]
            check_value(what, part, value, hint_of(kind, part))


def _from_file(word: str, name: str) -> type[Any]:
    """A class of the user's own: `path/to/file.py:Class`."""
    path, _, attribute = name.rpartition(":")
    example = f"my_{word}.py:My{word.capitalize()}"
    if not is_file(Path(path)):
        raise UserError(f"{word} file {shown(path)} not found: give a path to a Python file, as in {example}")
    try:
        module = module_of(Path(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        fault = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{word} file {shown(path)} does not import: {fault}: correct it") from error
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    classes = [key for key in own if isinstance(getattr(module, key), type)]
    if attribute not in vars(module):
        remedy = suggestion(attribute, classes) if classes else "it defines no class"
        raise UserError(f"{word} file {shown(path)} has no class {shown(attribute)}: {remedy}")
    kind = getattr(module, attribute)
    needed = _MUST_HAVE[word]
    if not isinstance(kind, type) or not is_dataclass(kind) or not all(hasattr(kind, each) for each in needed):
        described = "attribute" if len(needed) == 1 else "attributes"
        article = "an" if word[0] in "aeiou" else "a"
        remedy = f"give a dataclass with the class {described} {', '.join(needed)}"
        raise UserError(f"{shown(name)} is not {article} {word}: {remedy}")
    return kind
