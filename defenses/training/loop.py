"""The training loop: one for all defenses, seeded, resumable after a kill at any moment.

On one machine's CPU the same recipe gives the same bits, resumed or not. Every random draw is keyed by (seed, epoch,
image); only dropout uses the global generator, which is seeded anew for each epoch and restored after training.
"""

from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.core.eps import parse_eps
from bench.core.files import remove_leftovers, write_atomically
from bench.core.registry import attacks
from bench.core.types import Budget, ImageSet, UserError
from bench.ops import passes, rng
from bench.ops.devices import device_named
from bench.ops.frozen import frozen
from defenses.defense import Trainee
from defenses.training import augment, optimizers, setup, stanza, state
from defenses.training.recipe import Recipe
from defenses.training.state import Progress, Row

COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "train_accuracy",
    "held_out_accuracy",
    "held_out_pgd_accuracy",
    "seconds",
)
_EVALUATION_BATCH = 500


class DivergedError(UserError):
    """The loss or a weight is no longer finite; the text says where it happened and what is left."""

    status = 1


def train(recipe: Recipe, out: Path, resume: bool = False, command: str = "", data_dir: str | None = None) -> Row:
    """Train by a recipe into a directory and return the last row of its log, remade from the stored weights.

    Writes `state.pt` and `log.csv` after each epoch, then `weights.safetensors` and `stanza.toml`.

    Raises:
        UserError: the recipe cannot be carried out here, or the directory holds another training.
        DivergedError: the training diverged; the state of the last good epoch stays.
    """
    device = torch.device(device_named(recipe.train.device))
    remove_leftovers(out)
    data, held_out = setup.images(recipe.data, device, data_dir)
    trainee = setup.trainee_of(recipe, data)
    path, progress = out / "state.pt", Progress()
    if os.path.lexists(path):
        if not resume:
            raise UserError(f"{out} holds a training: continue it with --resume or choose another --out")
        progress = state.restore(path, recipe, trainee)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        tqdm(total=recipe.train.epochs, initial=progress.epochs, desc=recipe.name, unit="epoch", disable=None) as bar,
    ):
        while progress.epochs < recipe.train.epochs:
            row = _epoch(recipe, trainee, progress, data, held_out)
            state.save(path, recipe, trainee, progress)
            _write_log(out, progress)
            bar.update()
            bar.set_postfix({key: f"{value:.3g}" for key, value in row.items() if value is not None})
    if progress.best_weights is not None:
        trainee.model.load_state_dict(progress.best_weights)
    stanza.write(out, recipe, trainee.model, command)
    return {**progress.log[-1], **evaluation(recipe, trainee.model, data, held_out)}


def _epoch(recipe: Recipe, trainee: Trainee, progress: Progress, data: ImageSet, held_out: ImageSet) -> Row:
    """Train for one epoch, evaluate if it is time, and add a row to the log."""
    began, number = time.monotonic(), progress.epochs
    trainee.epoch = number
    torch.manual_seed(_seed(recipe.train.seed, number))
    for module in (trainee.model, trainee.face, trainee.modules):
        module.train()
    total = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    batches = list(_batches(recipe, data, number))
    for place, rows in enumerate(batches):
        rate = optimizers.factor(recipe.train, number + (place + 0.5) / len(batches))
        for optimizer in trainee.optimizers.values():
            optimizers.set_rate(optimizer, rate)
        x, keys = _prepared(recipe, data, rows, number)
        total += recipe.defense.step(trainee, x, data.labels[rows], keys) * len(rows)
    _check_finite(trainee, total, number)
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"epoch": number + 1, "lr": recipe.train.lr * rate, "train_loss": float(total) / len(data)}
    if (number + 1) % recipe.evaluation.every == 0 or number + 1 == recipe.train.epochs:
        row |= evaluation(recipe, trainee.model, data, held_out)
        _keep_best(recipe, trainee, progress, row)
    row["seconds"] = round(time.monotonic() - began, 3)
    progress.log.append(row)
    return row


def _seed(seed: int, epoch: int) -> int:
    return int(rng.keys(seed, torch.tensor([epoch]), "epoch"))


def _batches(recipe: Recipe, data: ImageSet, epoch: int) -> list[Tensor]:
    """Places of the images of each batch; a lone last image joins the batch before it (batch norm)."""
    keys = rng.keys(recipe.train.seed, data.indices, "order")
    batches = list(torch.split(rng.fold(keys, epoch).argsort(), recipe.train.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _prepared(recipe: Recipe, data: ImageSet, rows: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
    """Augmented images of a batch, and keys for the defense."""
    keys = rng.fold(rng.keys(recipe.train.seed, data.indices[rows], "train"), epoch)
    x, part = data.images[rows], recipe.data
    if part.crop_padding:
        x = augment.cropped(x, rng.fold(keys, -1), part.crop_padding, part.crop_fill)
    if part.flip:
        x = augment.flipped(x, rng.fold(keys, -2))
    return x, keys


def _check_finite(trainee: Trainee, total: Tensor, epoch: int) -> None:
    # Once an epoch: a check at each step would make a GPU wait, and the state before this epoch is what is kept.
    sound = bool(total.isfinite()) and all(bool(weight.isfinite().all()) for weight in trainee.model.parameters())
    if not sound:
        raise DivergedError(f"training diverged in epoch {epoch + 1}: lower train.lr; the epochs before it are kept")


def _keep_best(recipe: Recipe, trainee: Trainee, progress: Progress, row: Row) -> None:
    robust, clean = row["held_out_pgd_accuracy"], row["held_out_accuracy"]
    score = clean if robust is None or recipe.defense.threat() is None else robust
    if recipe.train.keep == "best" and score is not None and score > progress.best_score:
        weights = {name: weight.detach().cpu().clone() for name, weight in trainee.model.state_dict().items()}
        progress.best_score, progress.best_epoch, progress.best_weights = score, progress.epochs + 1, weights


def evaluation(recipe: Recipe, model: nn.Module, data: ImageSet, held_out: ImageSet) -> Row:
    """Accuracy on the held-out images, clean and under PGD, and on as many training images."""
    result: Row = {}
    if not len(held_out):
        return result
    with frozen(model):
        result["train_accuracy"] = _accuracy(model, data.images[: len(held_out)], data.labels[: len(held_out)])
        result["held_out_accuracy"] = _accuracy(model, held_out.images[:], held_out.labels)
        threat, part = recipe.threat(), recipe.evaluation
        if threat is not None and threat.eps is not None:
            size = None if part.step_size is None else parse_eps(part.step_size)
            pgd = attacks["pgd"](steps=part.steps, step_size=size)
            adversarial = []
            for rows in torch.split(torch.arange(len(held_out), device=held_out.labels.device), _EVALUATION_BATCH):
                x, y = held_out.images[rows], held_out.labels[rows]
                eps = torch.full((len(x),), threat.eps, dtype=torch.float64, device=x.device)
                keys = rng.keys(0, held_out.indices[rows], "evaluation")
                adversarial.append(pgd(model, x, y, Budget(threat.norm, eps), keys))
            result["held_out_pgd_accuracy"] = _accuracy(model, torch.cat(adversarial), held_out.labels)
    return result


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    right = 0
    for images, labels in zip(torch.split(x, _EVALUATION_BATCH), torch.split(y, _EVALUATION_BATCH), strict=True):
        right += int((passes.outputs(model, images).argmax(1) == labels).sum())
    return right / len(y)


def _write_log(out: Path, progress: Progress) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in progress.log:
        table.writerow({key: "" if value is None else f"{value:.6g}" for key, value in row.items()})
    write_atomically(out / "log.csv", text.getvalue().encode())
