"""Minimal l2 attacks held to an linf budget: how tables that print an accuracy under C&W or DeepFool count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bench.attacks.minimal.cw import CW
from bench.attacks.minimal.deepfool import DeepFool
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Attack, Budget, Classifier, Norm
from bench.ops import active_set, norms
from bench.ops.active_set import Proposals


def held_to(budget: Budget, attack: Attack, model: Classifier, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
    """What a minimal l2 attack finds, where it lies within the budget; the clean images elsewhere, (N, C, H, W)."""
    eps = budget.bound("an attack held to a budget")
    proposals = attack(model, x, y, Budget("l2", None), keys)
    inside = norms.size(proposals.double() - x.double(), budget.norm) <= eps
    result = Proposals(x)
    result.record(active_set.everything(x), proposals, inside)
    return result.x_adv


@attacks.register("cw_within")
@dataclass(frozen=True)
class CWWithin:
    """C&W's smallest l2 perturbation, counted only where its largest pixel change is within eps.

    Unbounded, C&W breaks every image, so the accuracies that bilateral adversarial training prints need such a rule;
    the paper names none, and this is that of the public TRADES challenge. The search knows nothing of the budget: a
    weak attack by design.

    Args:
        searches: values of C&W's constant; 5 is cleverhans' default.
        steps: steps of a search; this default and the next ones are the first of two settings that the paper prints
            (supplement, section 2.1); the second is `lr=0.01,steps=1000`.
        lr: Adam's rate.
        c0: the first constant.
        confidence: the least margin in logits of an image that counts.
    """

    searches: int = bounded(5, low=1)
    steps: int = bounded(100, low=1)
    lr: float = bounded(0.1, above=0)
    c0: float = bounded(100.0, above=0)
    confidence: float = bounded(0.0, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        search = CW(self.searches, self.steps, self.lr, self.c0, self.confidence)
        return held_to(budget, search, model, x, y, keys)


@attacks.register("deepfool_within")
@dataclass(frozen=True)
class DeepFoolWithin:
    """DeepFool's l2 perturbation, counted only where its largest pixel change is within eps.

    Steps, candidates and overshoot are cleverhans' defaults and the paper's; for the rule see `cw_within`.
    """

    steps: int = bounded(50, low=1)
    candidates: int = bounded(10, low=2)
    overshoot: float = bounded(0.02, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    minimal: ClassVar[bool] = False

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        search = DeepFool(self.steps, self.candidates, self.overshoot)
        return held_to(budget, search, model, x, y, keys)
