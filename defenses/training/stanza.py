"""What a training leaves: weights, and the stanza that describes them to `checkpoints.toml`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from bench.core.files import explained, read_text, write_atomically
from bench.core.places import is_file
from bench.core.text import shown
from bench.core.types import Checkpoint, UserError
from bench.models import stanza_text, stanzas
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
    stanza = stanza_of(recipe, hashlib.sha256(content).hexdigest(), command)
    write_atomically(out / STANZA, stanza_text.text_of(stanza))


def stanza_of(recipe: Recipe, sha256: str, command: str) -> Checkpoint:
    """The stanza of a trained model, its weights beside it.

    `trained_for` is the threat model of the defense; for a defense without one, that of the recipe's evaluation, which
    is the one that runs use unless told otherwise.
    """
    return Checkpoint(
        name=recipe.name,
        arch=recipe.model.arch,
        args=recipe.model.args,
        weights=WEIGHTS,
        sha256=sha256,
        data=recipe.data.name,
        defense=recipe.defense_name,
        paper=recipe.paper.source,
        trained_for=recipe.defense.threat() or recipe.threat(),
        trained_with=recipe.defense.trained_with(),
        recipe=recipe.path,
        command=command,
        # The number to expect holds for the recipe as it stands.
        published={} if recipe.settings else recipe.paper.expect,
    )


def adopt(directory: Path, registry: Path, name: str | None = None) -> list[Path]:
    """Bring a finished training into a project: its stanza into `registry`, and beside that its weights and log.

    `name` None means the recipe's. An entry of the same name is replaced. Returns the files written.

    Raises:
        UserError: the directory holds no finished training, or the name is none for a stanza.
    """
    if missing := [name for name in (STANZA, WEIGHTS, LOG) if not is_file(directory / name)]:
        raise UserError(f"{directory} holds no {missing[0]}: finish its training with --resume")
    trained = list(stanzas.read(directory / STANZA).values())
    if len(trained) != 1:
        raise UserError(f"{directory / STANZA} holds {len(trained)} models, not 1: train again")
    name = name or trained[0].name
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise UserError(f"a model cannot be named {shown(name)}: take letters, digits, _ and -")
    weights = registry.parent / "checkpoints" / f"{name}.safetensors"
    log = registry.parent / "results" / "training" / f"{name}.csv"
    old = read_text(registry) if os.path.lexists(registry) else ""
    new = stanza_text.with_stanza(old, replace(trained[0], name=name, weights=f"checkpoints/{weights.name}"))
    for source, target in ((directory / WEIGHTS, weights), (directory / LOG, log)):
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    write_atomically(registry, new)
    return [registry, weights, log]
