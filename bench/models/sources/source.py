"""What a source of models is, and how its names are read: `timm:resnet18`, `hf:path/to/model`, `onnx:net.onnx`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import nn

from bench.core.fields import Wording, build
from bench.core.files import one_line, sha256_of
from bench.core.images import Expected
from bench.core.places import expanded, is_file, is_folder
from bench.core.registry import model_sources
from bench.core.specs import parse_spec
from bench.core.text import shown
from bench.core.types import ThreatModel, UserError
from bench.models.preprocessing import NOTHING, Preprocessing

_WORDING = Wording(unknown="{what} takes no {field!r}: {remedy}", value="{what}: {field} cannot be {value}: {remedy}")
_NETWORK = ("connect", "resolve", "offline", "timed out", "timeout", "network", "proxy", "urlopen", "max retries")


@dataclass(frozen=True)
class Sourced:
    """A model as its source gives it.

    Args:
        model: the module.
        preprocessing: what it wants done to images in [0, 1].
        expected: what its own configuration says of files of images.
        data: the data set that it was made for, if bench knows it by name.
        trained_for: the threat model that it was made for.
        origin: where it came from, as a record says it.
    """

    model: nn.Module
    preprocessing: Preprocessing = NOTHING
    expected: Expected = field(default_factory=Expected)
    data: str = ""
    trained_for: ThreatModel | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """A frozen dataclass: a model's name at its source, the folder in which paths start, and fields that users set.

    Attributes:
        runs_code: whether loading a file of it runs what the file holds.
        library: the module that reads its models.
        names: what its names are, `NAME` or `FILE`.
    """

    runs_code: ClassVar[bool]
    library: ClassVar[str]
    names: ClassVar[str]

    def load(self) -> Sourced:
        """The model, its weights loaded."""
        ...


def kind_of(name: str) -> str:
    """The source that a model's name begins with; empty for any other name."""
    kind, colon, _ = name.partition(":")
    return kind if colon and kind in model_sources else ""


def is_code(name: str) -> bool:
    """Whether loading a model of a source runs what its file holds."""
    kind = kind_of(name)
    return bool(kind) and bool(model_sources[kind].runs_code)


def named(written: str, home: Path, args: Mapping[str, Any] | None = None) -> Source:
    """The source's entry that a name and further fields stand for.

    Args:
        written: `kind:name` or `kind:name(field=value)`.
        home: where relative paths start.
        args: further fields, which go before those that are written.

    Raises:
        UserError: it names nothing, or a field is unknown or has a wrong value.
    """
    kind, _, rest = written.partition(":")
    if is_file(home / rest) or is_folder(home / rest):  # a path may hold brackets
        name, fields_ = rest, dict[str, Any]()
    else:
        spec = parse_spec(rest or " ", "model") if rest.strip() else None
        name, fields_ = (spec.name, dict(spec.fields)) if spec else ("", {})
    if not name:
        raise UserError(f"{shown(written)} names no model: write {kind}:NAME")
    values = {**fields_, **{key: tuple(v) if isinstance(v, list) else v for key, v in (args or {}).items()}}
    source: Source = build(model_sources[kind], values, f"{kind}:{name}", _WORDING, name=name, home=home)
    return source


def a_file(written: str, home: Path, what: str) -> Path:
    """The file that a name stands for.

    Raises:
        UserError: there is none.
    """
    path = home / expanded(written)
    if not is_file(path):
        raise UserError(f"{what}: there is no file {path}: correct the path")
    return path


def file_hash(path: Path) -> dict[str, str]:
    """A file's sha256 by its name, for a model's origin."""
    return {path.name: sha256_of(path)}


def library(name: str) -> str:
    """A library and its version, as an origin names it."""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return name


@contextmanager
def loading(what: str, remedy: str) -> Iterator[None]:
    """Whatever a library raises, as one line.

    Raises:
        UserError: something was raised; where weights could not be downloaded, it says so.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        text = f"{type(fault).__name__}: {one_line(fault)[:200]}"
        chain = " ".join(one_line(each).lower() for each in _causes(fault))
        if any(sign in chain for sign in _NETWORK):
            offline = "give a local path, or fetch it into the library's cache where there is a network"
            raise UserError(f"{what} cannot be downloaded ({text}): {offline}") from fault
        raise UserError(f"{what} cannot be loaded ({text}): {remedy}") from fault


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if fault is None:
            return
        yield fault
        fault = fault.__cause__ or fault.__context__
