"""PDGD and PDPGD: primal-dual searches that weigh size against misclassification by a learned ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, adam, losses, minimum_norm, norms, passes, rng, tangent_planes
from bench.ops.active_set import Proposals
from bench.ops.adam import Adam
from bench.ops.softened import annealed, softened

_FARTHEST = math.log(1e6)
_STILL = 0.01


@dataclass
class Primal:
    """How images (N, C, H, W) move; the loss gradient counts in units (N,) that are set at the clean image."""

    adam: Adam
    unit: Tensor | None = None

    def step(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The direction to descend and its denominator, each (N, C, H, W)."""
        self.adam.add(gradient)
        first, second = self.adam.corrections()
        root = self.adam.square.sqrt() / norms.per_example(second.sqrt().to(gradient), gradient) + adam.TINY
        return self.adam.mean / root / norms.per_example(first.to(gradient), gradient), root


@dataclass
class Dual:
    """The log of the weight ratio (N,) of misclassification to size, and the averaged weight (N,) of the former."""

    ratio: Tensor
    weight: Tensor

    @classmethod
    def begin(cls, like: Tensor, ratio: float) -> Dual:
        """All images start from the same `ratio` of size to misclassification."""
        start = torch.full_like(like, -math.log(ratio))
        return cls(start, start.sigmoid())

    def ascend(self, fooled: Tensor, rate: float, ema: float) -> None:
        """Raise the weight of images that are right, lower that of fooled ones (N,)."""
        self.ratio = (self.ratio + torch.where(fooled, -rate, rate)).clamp(-_FARTHEST, _FARTHEST)
        self.weight = ema * self.weight + (1 - ema) * self.ratio.sigmoid()


def proximal(z: Tensor, weight: Tensor, norm: Norm) -> Tensor:
    """The proximal map of weight (N,) times the norm, at perturbations z (N, C, H, W)."""
    if norm == "linf":
        return z - norms.onto_l1_ball(z, weight)
    if norm == "l1":
        return z.sign() * (z.abs() - norms.per_example(weight, z)).clamp_min(0)
    shrink = 1 - weight / norms.size(z, "l2").clamp_min(norms.TINY)
    return z * norms.per_example(shrink.clamp_min(0), z)


@dataclass(frozen=True)
class _PrimalDual:
    steps: int = bounded(500, low=1)
    lr: float = bounded(0.1, above=0)
    last_lr: float = bounded(0.01, above=0, high=1)
    ratio: float = bounded(0.01, above=0)
    dual_lr: float = bounded(0.1, above=0)
    last_dual_lr: float = bounded(0.1, low=0, high=1)
    ema: float = bounded(0.9, low=0, high=1)
    restarts: int = bounded(2, low=1)
    spread: float = bounded(0.5, above=0, high=1)
    refine: int = bounded(10, low=0)
    polish: int = bounded(5, low=0)
    share: float = bounded(0.0, low=0, high=10)

    needs: ClassVar[tuple[str, ...]] = ()
    minimal: ClassVar[bool] = True

    def move(self, primal: Primal, dual: Dual, x: Tensor, z: Tensor, push: Tensor, rate: float, norm: Norm) -> Tensor:
        """The next images (N, C, H, W), from z; `push` is the gradient of the misclassification loss."""
        raise NotImplementedError

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals = Proposals(x)
        near = Budget("linf", torch.full_like(proposals.size, self.spread, dtype=torch.float64))
        unit = None
        for turn in range(self.restarts):
            z = norms.Ball.around(x, near).sample(rng.fold(keys, turn)) if turn else x
            primal = Primal(Adam.begin(x), unit)
            self.run(primal, model, x, y, z, budget.norm, proposals)
            unit = primal.unit
        minimum_norm.toward_clean(model, x, y, proposals, budget.norm, self.refine)
        tangent_planes.turn(model, x, y, proposals, budget.norm, self.polish)
        return proposals.x_adv

    def run(
        self,
        primal: Primal,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        z: Tensor,
        norm: Norm,
        proposals: Proposals,
    ) -> None:
        """One search from z (N, C, H, W). Updates `proposals`."""
        rows, dual = active_set.everything(x), Dual.begin(proposals.size, self.ratio)
        for step in range(self.steps):
            with softened(annealed(self.share, step, self.steps)):
                margin, logits, gradient = passes.input_gradient(losses.logit_margin, model, z, y, rows=rows)
            fooled = active_set.misclassified(logits, y)
            proposals.record_smaller(rows, z, fooled, norms.size(z - x, norm))
            push = gradient * norms.per_example(-(-margin).sigmoid(), x)
            z = self.move(primal, dual, x, z, push, self.lr * self.last_lr ** (step / self.steps), norm)
            left = 1 - step / max(self.steps - 1, 1)
            dual.ascend(fooled, self.dual_lr * (self.last_dual_lr + (1 - self.last_dual_lr) * left), self.ema)
        fooled = active_set.misclassified(passes.outputs(model, z, rows=rows), y)
        proposals.record_smaller(rows, z, fooled, norms.size(z - x, norm))


@attacks.register("pdgd")
@dataclass(frozen=True)
class PDGD(_PrimalDual):
    """Primal-dual gradient descent (Matyasko and Chau 2021, algorithm 1), in l2.

    Adam descends the size and the softplus of the negative margin, weighted by a softmax of dual variables.

    Args:
        steps: steps of a search.
        lr: Adam's first rate.
        last_lr: share of `lr` that it falls to exponentially.
        ratio: the first weight of size over that of misclassification.
        dual_lr: by how much an image's dual variable rises while it is right, and falls while it is fooled, at first.
        last_dual_lr: share of `dual_lr` that it falls to linearly.
        ema: share of the weight that its moving average over the dual variables keeps a step.
        restarts: searches, of which the smallest find is kept; not in the paper.
        spread: noise a pixel, at most, from which the later searches start.
        refine: bisections at the end between the adversarial image and the clean one, which are not in the paper.
        polish: rounds of `bench.ops.tangent_planes` at most that then turn the perturbation toward the nearest
            boundary, which are not in the paper: where logits are small the softplus pushes a fooled image on all the
            same.
        share: softness of the backward pass at first (see `bench.ops.softened`), which is not in the paper; 0 is exact.

    Deviations:
    - the misclassification term is divided by the length of its gradient at the clean image, so that the scale of the
      logits does not matter; otherwise the dual variables of a sharp model need most of the steps to find their range;
    - the last iterate is tested too.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    def move(self, primal: Primal, dual: Dual, x: Tensor, z: Tensor, push: Tensor, rate: float, norm: Norm) -> Tensor:
        """See `_PrimalDual`: one step of Adam on both terms."""
        if primal.unit is None:
            slope = norms.length(push, "l2")
            primal.unit = torch.where(slope > 0, slope, 1)
        inward = norms.steepest(z - x, "l2") * norms.per_example(1 - dual.weight, x)
        direction, _ = primal.step(inward + push * norms.per_example(dual.weight / primal.unit, x))
        return (z - rate * direction).clamp(0, 1)


@attacks.register("pdpgd")
@dataclass(frozen=True)
class PDPGD(_PrimalDual):
    """Primal-dual proximal gradient descent (Matyasko and Chau 2021, algorithm 2), in linf, l2 and l1.

    As `pdgd`, but Adam descends only the misclassification loss, and the size is handled by its proximal map in Adam's
    own metric (proximal Adam, Melchior et al. 2019).

    Args:
        proximal_steps: fixed-point steps of the proximal map, at most; an image's end when it moves by less than 1 % of
            its size.
    """

    proximal_steps: int = bounded(5, low=1)

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def move(self, primal: Primal, dual: Dual, x: Tensor, z: Tensor, push: Tensor, rate: float, norm: Norm) -> Tensor:
        """See `_PrimalDual`: one step of Adam on the loss, then the proximal map of the norm."""
        if primal.unit is None:
            primal.unit = norms.scale(push)
        direction, root = primal.step(push / norms.per_example(primal.unit, x))
        target = (z - rate * direction).clamp(0, 1) - x
        steepest = root.flatten(1).amax(1)
        weight = (1 - dual.weight) / dual.weight * rate / steepest
        metric, delta = root / norms.per_example(steepest, x), target
        going = torch.ones_like(weight, dtype=torch.bool)
        for _ in range(self.proximal_steps):
            following = (x + proximal(delta - metric * (delta - target), weight, norm)).clamp(0, 1) - x
            moved = norms.size(following - delta, "l2")
            delta = torch.where(norms.per_example(going, x), following, delta)
            going = going & (moved > _STILL * norms.size(delta, "l2"))
        return (x + delta).clamp(0, 1)
