"""Bilateral adversarial training: one step toward the most confusing class, and adversarial labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.core.eps import parse_eps
from bench.core.registry import defenses
from bench.core.types import Classifier, UserError
from bench.ops import losses, passes, rng
from bench.ops.adversarial_labels import LabelAdversary, Solution, soft_cross_entropy
from bench.ops.ascent import Schedule, ascend
from bench.ops.frozen import frozen
from defenses.defense import AdversarialDefense

Target = Literal["most_confusing", "random", "mosa", "mix"]


def most_confusing(logits: Tensor, y: Tensor) -> Tensor:
    """The wrong class (N,) with the highest logit."""
    return losses.strongest_others(logits, y, 1).squeeze(1)


def most_one_step(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The wrong class (N,) nearest in the features, (f_c - f_k) / ||w_c - w_k||, among those behind the true one.

    `weight` (K, D) is the last layer's. An image whose true class is behind all others aims at the most confusing one.
    """
    lead = logits.gather(1, y[:, None]) - logits
    apart = (weight[y][:, None] - weight).norm(dim=2)
    reach = torch.where((lead > 0) & (apart > 0), lead / apart, torch.inf)
    nearest, target = reach.min(1)
    return torch.where(nearest.isfinite(), target, most_confusing(logits, y))


@defenses.register("bilateral")
@dataclass(frozen=True)
class Bilateral(AdversarialDefense):
    """Cross-entropy of adversarial labels at adversarial images (Wang and Zhang 2019): R-MC-LA, as it stands.

    The image descends the cross-entropy of a target class from x + U(-eps, eps), which as in the authors' code is
    clipped only after the first gradient. Image and label are made from the clean image in evaluation mode; the loss is
    taken in training mode. R-MC-LA+ is this with a later schedule, in a recipe.

    Attributes:
        step_size: as long as eps unless given.
        target: the wrong class with the highest clean logit (most_confusing, MC), any wrong one (random, R-RAND-LA),
            the nearest by the last layer (mosa, R-MOSA-LA), or that for images that are right and MC for others (mix).
        random_start: the R of the names.
        labels: how labels are made (see `bench.ops.adversarial_labels.LabelAdversary`); one_hot is R-MC without LA.
        beta: see `LabelAdversary`, as for `gamma`.
        top: how many wrong classes share the label's mass, 0 for all; 9 is R-MC-LA9.
    """

    steps: int = 1
    step_size: str = ""
    target: Target = "most_confusing"
    random_start: bool = True
    labels: Solution = "main"
    beta: float = 9.0
    gamma: float = 0.01
    top: int = 0

    def __post_init__(self) -> None:
        if not self.step_size:
            object.__setattr__(self, "step_size", self.eps)
        super().__post_init__()
        if self.norm != "linf":
            raise UserError(f"bilateral starts and steps in linf, not {self.norm}: set norm to linf")
        LabelAdversary(self.labels, self.beta, self.gamma, self.top)

    @property
    def adversary(self) -> LabelAdversary:
        """What makes the labels."""
        return LabelAdversary(self.labels, self.beta, self.gamma, self.top)

    def targets(self, model: Classifier, logits: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """The class (N,) that each image is moved to, by its clean logits (N, K).

        Raises:
            UserError: `mosa` or `mix`, and the model has no linear last layer named head.
        """
        if self.target == "random":
            classes = logits.shape[1]
            return (y + 1 + rng.integers(rng.fold(keys, -1), classes - 1)) % classes
        confusing = most_confusing(logits, y)
        if self.target == "most_confusing":
            return confusing
        head = getattr(model, "head", None)
        if not isinstance(head, nn.Linear):
            raise UserError(f"target {self.target} needs the weights of a linear last layer: set model.args.head")
        nearest = most_one_step(logits, y, head.weight.detach())
        return nearest if self.target == "mosa" else torch.where(logits.argmax(1) == y, nearest, confusing)

    def adversarial(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor, target: Tensor) -> Tensor:
        """Images (N, C, H, W) moved toward their targets (N,)."""
        ball, start = self.ball(x), x
        if self.random_start:
            start = x + parse_eps(self.eps) * (rng.uniform(keys, x.shape[1:]) * 2 - 1)
        size = torch.full((len(y),), parse_eps(self.step_size), device=x.device)
        schedule = Schedule(self.steps, size, stop=False)
        return ascend(model, losses.targeted_ce, ball, y, start, schedule, (target,)).x_adv

    def loss(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        """Mean loss; see `Defense.loss`."""
        with frozen(model):
            clean = passes.outputs(model, x)
            labels = self.adversary(clean, y)
            x_adv = self.adversarial(model, x, y, keys, self.targets(model, clean, y, keys))
        return soft_cross_entropy(model(x_adv), labels).mean()

    def trained_with(self) -> dict[str, dict[str, Any]]:
        """What made the labels, for the attack `bilateral`; the rest tells tables which variant this is."""
        names = ("eps", "target", "random_start", "labels", "beta", "gamma", "top")
        return {"bilateral": {name: getattr(self, name) for name in names}}
