"""Models from a name: a registered architecture, `path/to/file.py:factory`, or `package.module:factory`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bench.core.files import one_line
from bench.core.registry import architectures, suggestion
from bench.core.types import UserError
from bench.core.user_code import module_of


def is_factory(name: str) -> bool:
    """Whether a name is a user's factory rather than a registered architecture."""
    return ":" in name


def build(arch: str, args: Mapping[str, Any], home: Path) -> nn.Module:
    """Make an untrained model, or whatever a user's factory returns.

    Args:
        arch: an architecture or a factory.
        args: keyword arguments for it.
        home: where relative paths start, and where a factory's own imports are looked for first.

    Raises:
        UserError: no such architecture, file or factory; it raised; or what it gave is not an nn.Module.
    """
    if not is_factory(arch):
        return _called(arch, architectures[arch], args)
    return _called(arch, named(arch, home), args)


def named(arch: str, home: Path) -> Any:
    """What `path/to/file.py:name` or `package.module:name` names.

    Raises:
        UserError: no such file, module or name.
    """
    place, _, name = arch.rpartition(":")
    path = (home / Path(place).expanduser()) if place.endswith(".py") else None
    with _importing_from(home if path is None else path.parent):
        module = _module(arch, place, path)
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        if not hasattr(module, name):
            raise UserError(f"{place} has no factory {name!r}: {suggestion(name, known) if known else 'define one'}")
        return getattr(module, name)


def _called(arch: str, factory: Any, args: Mapping[str, Any]) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise UserError(f"{arch} is {type(factory).__name__}, not a factory: name a function that returns the model")
    try:
        model = factory(**args)
    except UserError:
        raise
    except Exception as fault:
        raise UserError(
            f"{arch} failed with {type(fault).__name__} ({one_line(fault)}): correct it or its args"
        ) from fault
    if not isinstance(model, nn.Module):
        raise UserError(f"{arch} returned {type(model).__name__}, not an nn.Module: return the model itself")
    return model


@contextmanager
def _importing_from(directory: Path) -> Iterator[None]:
    sys.path.insert(0, str(directory.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(directory.resolve()))


def _module(arch: str, place: str, path: Path | None) -> ModuleType:
    if path is not None and not path.is_file():
        raise UserError(f"{arch}: there is no file {path}: correct the path")
    try:
        return import_module(place) if path is None else module_of(path)
    except (Exception, SystemExit) as fault:
        if isinstance(fault, ModuleNotFoundError) and fault.name and f"{place}.".startswith(f"{fault.name}."):
            raise UserError(f"{arch}: there is no module {fault.name!r}: install it or correct its name") from fault
        remedy = "import it in Python to see where"
        raise UserError(
            f"{arch}: importing it failed with {type(fault).__name__} ({one_line(fault)}): {remedy}"
        ) from fault
