"""Trained models by name: where weights lie, hashes before loading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from bench.core.files import check_size, sha256_of
from bench.core.terminal import announce
from bench.core.text import shown
from bench.core.types import Checkpoint, UserError
from bench.models import stanzas
from bench.models.factory import build, is_factory
from bench.models.preprocessing import NOTHING, Preprocessed, Preprocessing, normalising, preprocessed
from bench.models.sources.source import is_code, kind_of, named
from bench.models.weight_files import find_weights
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
    """Load a model: a name of the registry or of a source, `path/to/file.py:factory`, or `package.module:factory`.

    A registered model's weights are hashed before any reader sees them, and read without running code. Building a model
    with random weights draws from torch's global generator; a factory's model is loaded as the factory left it.

    Raises:
        UserError: no such model, weights that are absent, altered, damaged, hostile or do not fit, or a bad factory.
    """
    typed = is_factory(spec) or kind_of(spec)
    checkpoint = Checkpoint(name=spec, arch=spec, home=Path.cwd()) if typed else _registered(spec)
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
    if is_factory(checkpoint.arch) or is_code(checkpoint.arch):
        announce(f"model {name!r} runs {checkpoint.home / checkpoint.arch.rpartition(':')[0]}, which its stanza names")
    return checkpoint


def load_checkpoint(checkpoint: Checkpoint) -> Loaded:
    """Load the model that a stanza describes.

    Raises:
        UserError: see `load`.
    """
    if kind_of(checkpoint.arch):
        return _of_source(checkpoint)
    if not checkpoint.weights:
        if not is_factory(checkpoint.arch):
            raise UserError(f"{checkpoint.arch} without weights is untrained: give weights in the stanza")
        return _loaded(build(checkpoint.arch, checkpoint.args, checkpoint.home), checkpoint)
    path, sha256 = _checked_weights(checkpoint)
    model = build(checkpoint.arch, checkpoint.args, checkpoint.home)
    fit(model, renamed(read_tensors(path, needed=size_of(model)), checkpoint.rename))
    return _loaded(model, replace(checkpoint, sha256=sha256), sha256)


def _checked_weights(checkpoint: Checkpoint) -> tuple[Path, str]:
    """Where a stanza's weights lie, and their sha256, which is the one that the stanza names, if it does."""
    path = find_weights(checkpoint)
    check_size(path)
    sha256 = sha256_of(path)
    if checkpoint.sha256 and sha256 != checkpoint.sha256:
        remedy = "restore the file, or correct sha256 if you trust it"
        raise UserError(f"{path} has sha256 {sha256[:12]}..., not {checkpoint.sha256[:12]}...: {remedy}")
    return path, sha256


def _loaded(model: nn.Module, checkpoint: Checkpoint, sha256: str = "", own: Preprocessing = NOTHING) -> Loaded:
    """A model behind its own preprocessing, or the normalisation of its stanza, which its origin then tells."""
    asked = normalising(checkpoint.normalise, f"model {checkpoint.name}")
    ready = preprocessed(model, replace(own, mean=asked.mean or own.mean, std=asked.std or own.std)).eval()
    if isinstance(ready, Preprocessed):
        checkpoint = replace(checkpoint, origin={**checkpoint.origin, **ready.steps.recorded()})
    return Loaded(ready, checkpoint, sha256 or state_sha256(ready))


def _of_source(checkpoint: Checkpoint) -> Loaded:
    """A model of a source, which fills what the stanza leaves open."""
    args = dict(checkpoint.args)
    if checkpoint.weights:
        args["weights"] = str(_checked_weights(checkpoint)[0].resolve())
    sourced = named(checkpoint.arch, checkpoint.home, args).load()
    known = replace(
        checkpoint,
        data=checkpoint.data or sourced.data,
        trained_for=checkpoint.trained_for or sourced.trained_for,
        origin=sourced.origin,
        expected=sourced.expected,
    )
    return _loaded(sourced.model, known, own=sourced.preprocessing)
