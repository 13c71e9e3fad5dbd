"""Adversarial labels: a share of the true class given to the others, those that the model believes least first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.registry import suggestion
from bench.core.types import Classifier, UserError
from bench.ops import losses, norms

Solution = Literal["main", "sup", "one_hot"]
SOLUTIONS: tuple[Solution, ...] = get_args(Solution)
_FLOOR = 1e-8


def class_losses(logits: Tensor) -> Tensor:
    """What each class would cost, v = -log(p + 1e-8) (N, K): the slope of cross-entropy in the label's entries.

    The floor, from the authors' code, keeps v below 18.5 however far a class falls behind.
    """
    return -(logits.softmax(1) + _FLOOR).log()


def soft_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (N,) of logits (N, K) and labels (N, K) whose rows sum to 1."""
    return -(labels * logits.log_softmax(1)).sum(1)


def soft_ce(model: Classifier, x: Tensor, y: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of soft labels as an objective. Reference: labels (N, K)."""
    logits = model(x)
    return soft_cross_entropy(logits, labels), logits


@dataclass(frozen=True)
class LabelAdversary:
    """The label y' near the one-hot y that the clean image's prediction fits least (Wang and Zhang 2019, supplement).

    The wrong classes share eps_y by weights a: y'_k = a_k / (sum a + beta max a) and y'_c = 1 - eps_y, where eps_y is
    the largest with y'_c >= beta max y'_k (eq. 3).

    Args:
        solution: how a_k follows from v = `class_losses`. "main", the main paper's (eq. 7): v_k - v_MC + gamma, which
            leaves the most confusing class next to nothing; "sup" (eqs. 2 and 4): v_k; "one_hot": y' = y.
        beta: how many times the largest wrong share the true class keeps at least.
        gamma: the share of the most confusing class in "main".
        top: share among this many wrong classes of the largest v alone (section 3: 9), of which v_MC is then the least,
            which the paper does not say; 0 means all.
    """

    solution: Solution = "main"
    beta: float = 9.0
    gamma: float = 0.01
    top: int = 0

    def __post_init__(self) -> None:
        if self.solution not in SOLUTIONS:
            known = suggestion(str(self.solution), [*SOLUTIONS])
            raise UserError(f"label solution {self.solution!r} is unknown: {known}")
        if not 1 <= self.beta < torch.inf:
            raise UserError(f"beta {self.beta} would put a wrong class before the true one: give at least 1")
        if not 0 < self.gamma < torch.inf:
            raise UserError(f"gamma {self.gamma} leaves nothing to share among equal classes: give more than 0")
        if self.top < 0:
            raise UserError(f"top {self.top} is no number of classes: give 0 for all, or more")

    def weights(self, logits: Tensor, y: Tensor) -> Tensor:
        """The weights a (N, K) by which eps_y is shared: positive, and zero for classes that get none."""
        v = class_losses(logits)
        rows = losses.strongest_others(v, y, self.top or logits.shape[1])
        chosen = v.gather(1, rows)
        # Two classes, of which the wrong one is certain: its v rounds to 0, and 0 / 0 must be all of the share.
        shares = chosen - chosen[:, -1:] + self.gamma if self.solution == "main" else chosen.clamp_min(norms.TINY)
        return torch.zeros_like(v).scatter(1, rows, shares)

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """Labels (N, K), each row summing to 1, from clean logits (N, K) and true classes (N,); no gradient.

        Raises:
            UserError: the model has a single class.
        """
        if logits.shape[1] < 2:
            raise UserError("adversarial labels need a wrong class, and the model has one class: give it more")
        if self.solution == "one_hot":
            return F.one_hot(y, logits.shape[1]).to(logits.dtype)
        weights = self.weights(logits.detach(), y)
        kept = self.beta * weights.amax(1, keepdim=True)
        labels = weights.scatter(1, y[:, None], kept)
        return labels / labels.sum(1, keepdim=True)
