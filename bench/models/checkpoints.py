"""Trained models by name: where weights lie, hashes before loading."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from bench.core.download import fetch
from bench.core.files import check_size, sha256_of
from bench.core.places import cache_dir, expanded, is_file, search
from bench.core.terminal import announce
from bench.core.text import shown
from bench.core.types import Checkpoint, UserError
from bench.models import stanzas
from bench.models.factory import build, is_factory
from bench.models.weights import fit, read_tensors, renamed, size_of, state_sha256

__all__ = ["Loaded", "find_weights", "load", "load_checkpoint", "state_sha256"]


@dataclass(frozen=True)
class Loaded:
    """A model ready to be attacked: in eval mode, on the CPU, with what it was made from.

    `sha256` is that of the weights file, or of the model's tensors where it came from a factory.
    """

    model: nn.Module
    checkpoint: Checkpoint
    sha256: str


def load(spec: str) -> Loaded:
    """Load a model: a name of the registry, `path/to/file.py:factory`, or `package.module:factory`.

    A registered model's weights are hashed before any reader sees them, and read without running code. Building a model
    with random weights draws from torch's global generator; a factory's model is loaded as the factory left it.

    Raises:
        UserError: no such model, weights that are absent, altered, damaged, hostile or do not fit, or a bad factory.
    """
    checkpoint = Checkpoint(name=spec, arch=spec, home=Path.cwd()) if is_factory(spec) else _registered(spec)
    try:
        return load_checkpoint(checkpoint)
    except UserError as fault:
        raise UserError(f"model {shown(spec)}: {fault}") from fault


def _registered(name: str) -> Checkpoint:
    """The stanza of a model, with a line on stderr where it stands for another, or names a file that will be run."""
    known = stanzas.registry()
    checkpoint = known[name]
    if name in known.replaced:
        announce(f"model {name!r} is the one of {checkpoint.home}, which replaces the built-in one")
    if is_factory(checkpoint.arch):
        announce(f"model {name!r} runs {checkpoint.home / checkpoint.arch.rpartition(':')[0]}, which its stanza names")
    return checkpoint


def load_checkpoint(checkpoint: Checkpoint) -> Loaded:
    """Load the model that a stanza describes.

    Raises:
        UserError: see `load`.
    """
    if not checkpoint.weights:
        if not is_factory(checkpoint.arch):
            raise UserError(f"{checkpoint.arch} without weights is untrained: give weights in the stanza")
        model = build(checkpoint.arch, checkpoint.args, checkpoint.home).eval()
        return Loaded(model, checkpoint, state_sha256(model))
    path = find_weights(checkpoint)
    check_size(path)
    sha256 = sha256_of(path)
    if checkpoint.sha256 and sha256 != checkpoint.sha256:
        remedy = "restore the file, or correct sha256 if you trust it"
        raise UserError(f"{path} has sha256 {sha256[:12]}..., not {checkpoint.sha256[:12]}...: {remedy}")
    model = build(checkpoint.arch, checkpoint.args, checkpoint.home)
    fit(model, renamed(read_tensors(path, needed=size_of(model)), checkpoint.rename))
    return Loaded(model.eval(), replace(checkpoint, sha256=sha256), sha256)


def find_weights(checkpoint: Checkpoint) -> Path:
    """Where a stanza's weights lie; a URL is fetched to the cache first.

    A relative path is looked for beside the stanza's file, in the directories of `$BENCH_MODELS`, and in the cache.
    `package:NAME/path` is a file of an installed package, which is not imported.

    Raises:
        UserError: they are nowhere, or cannot be fetched.
    """
    weights, cache = checkpoint.weights, cache_dir() / "models"
    if "://" in weights:
        return _fetched(checkpoint, cache)
    if weights.startswith("package:"):
        return _in_package(weights.removeprefix("package:"))
    path = expanded(weights)
    more = [expanded(place) for place in os.environ.get("BENCH_MODELS", "").split(os.pathsep) if place]
    places = [checkpoint.home, *more, cache]
    for place in places:
        if is_file(place / path):
            return place / path
    looked = ", ".join(dict.fromkeys(str((place / path).parent) for place in places))
    source = f" (from {checkpoint.source})" if checkpoint.source else ""
    remedy = f"place it in one of them{source}, or name its directory in $BENCH_MODELS"
    raise UserError(f"weights {path.name} not found in {looked}: {remedy}")


def _fetched(checkpoint: Checkpoint, cache: Path) -> Path:
    if not checkpoint.sha256:
        raise UserError(f"weights from {checkpoint.weights} have no sha256 to check: add it to the stanza")
    name = checkpoint.weights.partition("?")[0].rpartition("/")[2][-100:]
    path = cache / f"{checkpoint.sha256[:12]}-{name}"
    if not is_file(path) or sha256_of(path) != checkpoint.sha256:
        fetch(checkpoint.weights, path, checkpoint.sha256)
    return path


def _in_package(inside: str) -> Path:
    package, _, file = inside.partition("/")
    try:
        spec = find_spec(package) if package.isidentifier() else None
    except ValueError:  # __main__ has none
        spec = None
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise UserError(f"the weights come with the package {package!r}, which is not installed: pip install {package}")
    path = search(file, map(Path, places))
    if path is None or ".." in Path(file).parts or Path(file).is_absolute():
        raise UserError(f"package {package!r} holds no file {file}: correct weights, or install another version")
    return path
