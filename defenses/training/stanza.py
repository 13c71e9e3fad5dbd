"""What a training leaves: weights, and the stanza that describes them to `checkpoints.toml`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from bench.core.files import write_atomically
from bench.core.types import UserError
from bench.models.weights import fit, read_tensors
from defenses.training.recipe import Recipe

WEIGHTS, STANZA, LOG = "weights.safetensors", "stanza.toml", "log.csv"


def write(out: Path, recipe: Recipe, model: nn.Module, command: str) -> None:
    """Write the weights in the recipe's precision and their stanza, and load them back into the model.

    So what is evaluated next is what is stored. Buffers (class centers, running statistics) stay in float32.
    """
    parameters = {name for name, _ in model.named_parameters()}
    kind = torch.float16 if recipe.train.store == "float16" else torch.float32
    tensors = {
        name: (value.to(kind) if name in parameters else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    content = save(tensors)
    write_atomically(out / WEIGHTS, content)
    fit(model, read_tensors(out / WEIGHTS))
    text = stanza_of(recipe, hashlib.sha256(content).hexdigest(), command)
    write_atomically(out / STANZA, text.encode())


def stanza_of(recipe: Recipe, sha256: str, command: str) -> str:
    """The stanza as TOML, its weights beside it.

    `trained_for` is the threat model of the defense; for a defense without one, that of the recipe's evaluation, which
    is the one that runs use unless told otherwise.
    """
    threat = recipe.defense.threat() or recipe.threat()
    entries: dict[str, Any] = {
        "arch": recipe.model.arch,
        "args": recipe.model.args,
        "weights": WEIGHTS,
        "sha256": sha256,
        "data": recipe.data.name,
        "defense": recipe.defense_name,
        "paper": recipe.paper.source,
        "trained_for": {} if threat is None else {"norm": threat.norm, "eps": threat.written},
        "trained_with": recipe.defense.trained_with(),
        "recipe": recipe.path,
        "command": command,
        # The number to expect holds for the recipe as it stands.
        "published": {} if recipe.settings else recipe.paper.expect,
    }
    lines = [f"[{recipe.name}]", *(f"{key} = {_toml(value)}" for key, value in entries.items() if value)]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """One value on one line of TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value, ensure_ascii=False)


def adopt(directory: Path, registry: Path, name: str | None = None) -> list[Path]:
    """Bring a finished training into a project: its stanza into `registry`, and beside that its weights and log.

    `name` None means the recipe's. An entry of the same name is replaced. Returns the files written.

    Raises:
        UserError: the directory holds no finished training, or the name is none for a stanza.
    """
    try:
        text = (directory / STANZA).read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"{directory} holds no {STANZA}: finish its training with --resume") from None
    trained = text[1 : text.index("]")]
    name = name or trained
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"a model cannot be named {name!r}: take letters, digits, _ and -")
    weights = registry.parent / "checkpoints" / f"{name}.safetensors"
    log = registry.parent / "results" / "training" / f"{name}.csv"
    for source, target in ((directory / WEIGHTS, weights), (directory / LOG, log)):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    place = f'weights = "checkpoints/{weights.name}"'
    stanza = text.replace(f"[{trained}]", f"[{name}]", 1).replace(f'weights = "{WEIGHTS}"', place)
    old = registry.read_text(encoding="utf-8") if registry.exists() else ""
    write_atomically(registry, _with_stanza(old, name, stanza).encode())
    return [registry, weights, log]


def _with_stanza(registry: str, name: str, stanza: str) -> str:
    """The text of a registry with one stanza replaced, or added at its end."""
    head = re.escape(name)
    # Up to the next header; comments above that header belong to it.
    block = re.compile(rf"^\[{head}\]\n(?:(?!\[)(?!#.*\n(?:#.*\n)*\[).*\n?|\[{head}\..*\n)*", re.MULTILINE)
    if not registry.endswith("\n") and registry:
        registry += "\n"
    if block.search(registry):
        return block.sub(lambda _: stanza + "\n", registry, count=1).rstrip("\n") + "\n"
    return f"{registry}\n{stanza}".lstrip("\n")
