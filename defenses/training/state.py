"""Where a training stands: saved whole and atomically after each epoch, read without unpickling code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.files import one_line, write_atomically
from bench.core.types import UserError
from bench.models.weights import load_safely
from defenses.defense import Trainee
from defenses.training.recipe import PaperPart, Recipe

Row = dict[str, float | None]


@dataclass
class Progress:
    """The log so far, a row an epoch, and the best epoch's weights where the recipe keeps the best."""

    log: list[Row] = field(default_factory=list)
    best_score: float = -1.0
    best_epoch: int = -1
    best_weights: dict[str, Tensor] | None = None

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.log)


def fingerprint(recipe: Recipe) -> str:
    """A hash of everything in a recipe that decides the weights."""
    train = replace(recipe.train, device="auto")
    decisive = replace(recipe, path="", settings=(), train=train, paper=PaperPart(""))
    return hashlib.sha256(repr(decisive).encode()).hexdigest()


def save(path: Path, recipe: Recipe, trainee: Trainee, progress: Progress) -> None:
    """Write the state of a training."""
    content = {
        "recipe": fingerprint(recipe),
        "model": trainee.model.state_dict(),
        "modules": trainee.modules.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainee.optimizers.items()},
        "progress": vars(progress),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def restore(path: Path, recipe: Recipe, trainee: Trainee) -> Progress:
    """Bring a trainee to the state in a file.

    Raises:
        UserError: the file is damaged or was made by another recipe.
    """
    content: Mapping[Any, Any] = load_safely(path)
    if "recipe" not in content:
        raise UserError(f"{path} is not a training's state: delete it and train again")
    if content["recipe"] != fingerprint(recipe):
        raise UserError(f"{path} was made by another recipe or other settings: give the same ones, or another --out")
    try:
        trainee.model.load_state_dict(content["model"])
        trainee.modules.load_state_dict(content["modules"])
        for name, optimizer in trainee.optimizers.items():
            optimizer.load_state_dict(content["optimizers"][name])
        progress = Progress(**content["progress"])
        _check(progress, trainee.model)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as fault:
        text = one_line(fault)[:120]
        raise UserError(f"{path} is damaged ({text}): delete it and train again") from None
    return progress


def _check(progress: Progress, model: nn.Module) -> None:
    """Hold what was read to what the loop writes: rows of numbers by name, weights that fit the model."""
    best = progress.best_weights
    if best is not None and {name: value.shape for name, value in best.items()} != {
        name: value.shape for name, value in model.state_dict().items()
    }:
        raise ValueError("its best weights are another model's")
    cells = [(name, cell) for row in progress.log for name, cell in row.items()]
    if not all(isinstance(name, str) and isinstance(cell, int | float | None) for name, cell in cells):
        raise ValueError("its log is no table of numbers")
