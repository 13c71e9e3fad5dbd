"""Optimisers and learning-rate schedules as pure functions of the recipe: nothing but momenta is state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from defenses.training.recipe import TrainPart


def optimizer_maker(train: TrainPart) -> Callable[..., Optimizer]:
    """(module, lr=None) -> the recipe's optimiser over the weights of a module; see `defense.MakeOptimizer`."""

    def make(module: nn.Module, lr: float | None = None) -> Optimizer:
        # Kernels are matrices or more; biases and batch-norm scales are vectors.
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        decayed = [weight for weight in weights if train.decay_on == "all" or weight.dim() > 1]
        others = [weight for weight in weights if train.decay_on == "kernels" and weight.dim() <= 1]
        rate = train.lr if lr is None else lr
        groups = [
            {"params": part, "weight_decay": decay, "lr": rate, "initial_lr": rate}
            for part, decay in ((decayed, train.weight_decay), (others, 0.0))
            if part
        ]
        if train.optimizer == "adam":
            return torch.optim.Adam(groups)
        return torch.optim.SGD(groups, momentum=train.momentum)

    return make


def factor(train: TrainPart, progress: float) -> float:
    """What multiplies the learning rate after `progress` epochs."""
    if progress < train.warmup:
        return progress / train.warmup
    if train.schedule == "cosine":
        return (1 + math.cos(math.pi * (progress - train.warmup) / (train.epochs - train.warmup))) / 2
    if train.schedule == "milestones":
        return train.factor ** sum(progress >= milestone for milestone in train.milestones)
    return 1.0


def set_rate(optimizer: Optimizer, scale: float) -> None:
    """Bring every learning rate of an optimiser to its initial value times `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
