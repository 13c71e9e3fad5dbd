"""Models from a name: a registered architecture, `path/to/file.py:factory`, or `package.module:factory`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from bench.core.files import memory, one_line
from bench.core.places import expanded, is_file
from bench.core.registry import architectures, suggestion
from bench.core.text import shown
from bench.core.types import UserError
from bench.core.user_code import module_of
from bench.models.sources.source import kind_of


def is_factory(name: str) -> bool:
    """Whether a name is a user's factory rather than a registered architecture or a model of a source."""
    return ":" in name and not kind_of(name)


def build(arch: str, args: Mapping[str, Any], home: Path) -> nn.Module:
    """Make an untrained model, or whatever a user's factory returns.

    Args:
        arch: an architecture or a factory.
        args: keyword arguments for it.
        home: where relative paths start, and where a factory's own imports are looked for first.

    Raises:
        UserError: no such architecture, file or factory; it raised; what it gave is not an nn.Module; or an
            architecture would need more memory than there is.
    """
    if not is_factory(arch):
        _check_memory(arch, args)
        with _quiet():
            return _called(arch, architectures[arch], args)
    with _once(arch), _importing_from(_folder(arch, home)):
        return _called(arch, named(arch, home), args)


def named(arch: str, home: Path) -> Any:
    """What `path/to/file.py:name` or `package.module:name` names.

    Raises:
        UserError: no such file, module or name.
    """
    place, _, name = arch.rpartition(":")
    path = (home / expanded(place)) if place.endswith(".py") else None
    if path is not None and not is_file(path):
        raise UserError(f"{shown(arch)}: there is no file {path}: correct the path")
    with _importing_from(_folder(arch, home)):
        module = _module(arch, place, path)
        if not hasattr(module, name):
            known = [key for key, value in vars(module).items() if _is_own(value, module) and not key.startswith("_")]
            remedy = suggestion(name, known) if known else "define one"
            raise UserError(f"{shown(place)} has no factory {shown(name)}: {remedy}")
        return getattr(module, name)


def _folder(arch: str, home: Path) -> Path:
    """Where a factory's own imports are looked for first."""
    place = arch.rpartition(":")[0]
    return (home / expanded(place)).parent if place.endswith(".py") else home


def _is_own(value: Any, module: ModuleType) -> bool:
    """Whether a module defines a function or class itself, or holds a model that it made."""
    defined = callable(value) and getattr(value, "__module__", None) == module.__name__
    return defined or isinstance(value, nn.Module)


_under_way: set[str] = set()


@contextmanager
def _once(arch: str) -> Iterator[None]:
    """Refuse a factory that asks for itself, as this program's own commands do."""
    if arch in _under_way:
        raise UserError(f"{shown(arch)} asks for itself: name a function that returns the model")
    _under_way.add(arch)
    try:
        yield
    finally:
        _under_way.discard(arch)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, as of layers without content: what an architecture cannot be is an error of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_memory(arch: str, args: Mapping[str, Any]) -> None:
    """Refuse an architecture whose weights are more than memory holds, by making it without content."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _quiet():
            weights = architectures[arch](**args).state_dict().values()
    except UserError:
        raise
    except Exception:  # one that computes with its weights cannot be made so, and wrong args are told below
        return
    needed = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    if needed > memory():
        size = f"{needed / 2**30:,.1f} GiB of weights, more than memory holds"
        raise UserError(f"{arch} with these args has {size}: correct its args")


def _called(arch: str, factory: Any, args: Mapping[str, Any]) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        kind = type(factory).__name__
        raise UserError(f"{shown(arch)} is {kind}, not a factory: name a function that returns the model")
    if isinstance(factory, BuiltinFunctionType):  # such as os._exit: Python's own functions return no models
        raise UserError(f"{shown(arch)} is a function of Python itself: name one that returns the model")
    if isinstance(factory, type) and not issubclass(factory, nn.Module):
        raise UserError(f"{shown(arch)} is a class, but no nn.Module: name one that is, or a function that returns it")
    try:
        model = factory(**args)
    except UserError:
        raise
    except KeyboardInterrupt:
        raise
    except SystemExit:
        raise UserError(f"{shown(arch)} asked Python to exit: name a function that returns the model") from None
    except BaseException as fault:
        raise UserError(
            f"{shown(arch)} failed with {type(fault).__name__} ({one_line(fault)[:200]}): correct it or its args"
        ) from fault
    if not isinstance(model, nn.Module):
        raise UserError(f"{shown(arch)} returned {type(model).__name__}, not an nn.Module: return the model itself")
    return model


@contextmanager
def _importing_from(directory: Path) -> Iterator[None]:
    sys.path.insert(0, str(directory.resolve()))
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have taken it away
            sys.path.remove(str(directory.resolve()))


def _module(arch: str, place: str, path: Path | None) -> ModuleType:
    try:
        return import_module(place) if path is None else module_of(path)
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        if isinstance(fault, ModuleNotFoundError) and fault.name and f"{place}.".startswith(f"{fault.name}."):
            raise UserError(f"{arch}: there is no module {fault.name!r}: install it or correct its name") from fault
        remedy = "import it in Python to see where"
        raise UserError(
            f"{arch}: importing it failed with {type(fault).__name__} ({one_line(fault)[:200]}): {remedy}"
        ) from fault
