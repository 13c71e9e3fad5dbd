"""What a recipe is trained on and with: images on the device, the model, its optimisers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bench.core.terminal import announce
from bench.core.types import ImageSet, UserError
from bench.data.loading import load
from bench.models.factory import build, is_factory
from bench.models.precision import in_bfloat16
from bench.ops import passes, rng
from defenses.defense import Trainee
from defenses.training.optimizers import optimizer_maker
from defenses.training.recipe import DataPart, Recipe


def images(part: DataPart, device: torch.device, data_dir: str | None = None) -> tuple[ImageSet, ImageSet]:
    """The images to train on and the held-out ones, on the device.

    The held-out ones are drawn by key from the training split, the same for every seed and defense.

    Raises:
        UserError: the data set is missing, or nothing is left to train on.
    """
    data = load(part.name, "train", data_dir)
    if part.limit is not None:
        data = data.select(slice(part.limit))
    if part.held_out >= len(data):
        raise UserError(f"data.held_out {part.held_out} leaves none of {len(data)} images: hold out fewer")
    order = rng.keys(0, data.indices, "held out").argsort()
    held, kept = order[: part.held_out].sort().values, order[part.held_out :].sort().values
    return _on(device, data.select(kept)), _on(device, data.select(held))


def _on(device: torch.device, data: ImageSet) -> ImageSet:
    images, labels, indices = (part.to(device) for part in (data.images[:], data.labels, data.indices))
    return replace(data, images=images, labels=labels, indices=indices)


def model_of(recipe: Recipe) -> nn.Module:
    """The recipe's model with fresh weights, drawn from its seed.

    Raises:
        UserError: the architecture refuses its arguments.
    """
    home = Path(recipe.path).parent
    if is_factory(recipe.model.arch):
        announce(f"recipe {recipe.name} runs {home / recipe.model.arch.rpartition(':')[0]}, which it names")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        return build(recipe.model.arch, recipe.model.args, home)


def trainee_of(recipe: Recipe, data: ImageSet) -> Trainee:
    """The model and its optimisers, ready for the images `data`, on their device.

    Raises:
        UserError: the model does not fit the images, or lacks what the defense needs.
    """
    device = data.labels.device
    model = model_of(recipe).to(device)
    shape = "x".join(map(str, data.images.shape[1:]))
    try:
        classes = passes.classes(model.eval(), data.images[:1])
    except RuntimeError:
        raise UserError(f"{recipe.model.arch} cannot take {shape} images: correct model.args") from None
    if classes != len(data.classes):
        raise UserError(
            f"{recipe.model.arch} tells {classes} classes apart, {data.name} has {len(data.classes)}: "
            "set model.args.classes"
        )
    lacking = [need for need in recipe.defense.needs if not hasattr(model, need)]
    if lacking:
        raise UserError(f"{recipe.defense_name} needs a model with {', '.join(lacking)}: set model.args.head")
    modules = recipe.defense.modules(model).to(device)
    optimizers = recipe.defense.optimizers(model, modules, optimizer_maker(recipe.train))
    wanted = recipe.train.mixed_precision
    if wanted == "on" or (wanted == "auto" and device.type == "cuda"):
        # In place: the optimisers hold these weights. Bfloat16 kernels like the channels innermost.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Trainee(model, modules, optimizers, face=in_bfloat16(model))
    return Trainee(model, modules, optimizers)
