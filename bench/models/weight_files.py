"""Where the weights of stanzas lie: beside them, in directories of the user's, in the cache, or at a URL.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from bench.core.download import fetch
from bench.core.files import sha256_of
from bench.core.places import cache_dir, expanded, is_file, search
from bench.core.types import Checkpoint, UserError


def find_weights(checkpoint: Checkpoint) -> Path:
    """Where a stanza's weights lie; a URL is fetched to the cache first.

    A relative path is looked for beside the stanza's file, in the directories of `$BENCH_MODELS`, and in the cache.
    `package:NAME/path` is a file of an installed package, which is not imported.

    Raises:
        UserError: they are nowhere, or cannot be fetched.
    """
    weights, cache = checkpoint.weights, cache_dir() / "models"
    if "://" in weights:
        return _fetched(checkpoint)
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


def _in_cache(checkpoint: Checkpoint) -> Path:
    """Where the cache has what a URL leads to."""
    name = checkpoint.weights.partition("?")[0].rpartition("/")[2][-100:]
    return cache_dir() / "models" / f"{checkpoint.sha256[:12]}-{name}"


def _fetched(checkpoint: Checkpoint) -> Path:
    if not checkpoint.sha256:
        raise UserError(f"weights from {checkpoint.weights} have no sha256 to check: add it to the stanza")
    path = _in_cache(checkpoint)
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


def presence(checkpoint: Checkpoint) -> str:
    """Whether a stanza's weights are at hand: `present`, `absent`, `to fetch` from a URL, or `-` if it names none."""
    weights = checkpoint.weights
    if not weights:
        return "-"
    if "://" in weights:
        return "present" if is_file(_in_cache(checkpoint)) else "to fetch"
    try:
        find_weights(checkpoint)
    except UserError:
        return "absent"
    return "present"
