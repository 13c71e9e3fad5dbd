"""ALMA: an augmented Lagrangian search for the smallest perturbation, with multipliers set image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, losses, minimum_norm, norms, passes, rng, tangent_planes
from bench.ops.softened import annealed, softened

# The constraint asks for this much beyond a tie, as a share of the gap between logits: a tie fools nobody.
_BEYOND = 1e-4
_LEAST, _MOST, _TINY = 1e-6, 1e12, 1e-8


def constraint(model: Classifier, x: Tensor, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """How far (N,) images are from being misclassified, negative beyond; logits (N, K). `clean` (N, K): clean logits.

    Minus the difference of logits ratio; with two classes, where that ratio says nothing, minus the margin over its
    size on the clean image.
    """
    logits = model(x)
    if logits.shape[1] > 2:
        return _BEYOND - losses.dlr(logits, y), logits
    whole = losses.margin(clean, y).abs()
    return _BEYOND - losses.margin(logits, y) / whole.where(whole > 0, 1), logits


@dataclass
class Multipliers:
    """mu and rho (N,) of the penalty P2 (Birgin et al. 2005), and the constraint (N,) at the last check."""

    mu: Tensor
    rho: Tensor
    checked: Tensor

    def slope(self, value: Tensor) -> Tensor:
        """Derivative (N,) of the penalty at constraint values (N,)."""
        outside = self.mu + 2 * self.mu * self.rho * value + self.rho.square() * value.square() / 2
        inside = self.mu / (1 - self.rho * value.clamp_max(0)).square()
        return torch.where(value >= 0, outside, inside)


@attacks.register("alma")
@dataclass(frozen=True)
class ALMA:
    """Augmented Lagrangian method for adversarial attacks (Rony et al. 2021, algorithm 2), in l2.

    Descends size plus a penalty on the scale-free logit gap by RMSProp with momentum.

    Args:
        steps: steps of a search.
        lr: step size until an image is first fooled.
        last_lr: share of `lr` that it then falls to exponentially.
        check: every so many steps rho grows where the constraint did not fall enough.
        tau: share of its value at the last check that the constraint of an image never fooled must fall below.
        gamma: by what rho grows.
        alpha: weight of the averages: of the penalty's slope, which the multiplier mu follows, and RMSProp's.
        restarts: searches, of which the smallest proposal is kept.
        spread: noise a pixel, at most, from which the later searches start.
        refine: bisections at the end between the adversarial image and the clean one.
        polish: rounds of `bench.ops.tangent_planes` at most that then turn the perturbation toward the nearest
            boundary.
        share: softness of the backward pass at first (see `bench.ops.softened`), which is not in the paper; 0 is exact.

    Deviations:
    - the step size starts at 1 and ends at 1e-5, where the authors' library has 0.1 and 1e-3 and the paper fits the
      first one to a first distance: the first steps go far beyond the boundary, from where the search comes back to a
      nearer point of it, and the last ones are small enough for images that lie close to it;
    - an image counts as fooled by its prediction, not by the constraint's sign, and the last iterate is tested too;
    - with two classes the constraint is the margin relative to the clean one;
    - two searches reach nearer boundaries than the paper's 1000 steps in one;
    - the multiplier follows the image with a delay, so that both swing about their optimum, and the last steps may be
      too small to come to rest: hence `refine` and `polish`.
    """

    steps: int = bounded(500, low=1)
    lr: float = bounded(1.0, above=0)
    last_lr: float = bounded(1e-5, above=0, high=1)
    check: int = bounded(10, low=1)
    tau: float = bounded(0.95, above=0, high=1)
    gamma: float = bounded(1.2, low=1)
    alpha: float = bounded(0.9, low=0, high=1)
    restarts: int = bounded(2, low=1)
    spread: float = bounded(0.5, above=0, high=1)
    refine: int = bounded(10, low=0)
    polish: int = bounded(5, low=0)
    share: float = bounded(0.0, low=0, high=10)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    minimal: ClassVar[bool] = True

    def pull(self, duals: Multipliers, value: Tensor, ever: Tensor, step: int) -> Tensor:
        """The weight (N,) of the constraint's gradient at this step; brings the multipliers up to date."""
        if step == 0:
            duals.checked = value
        elif (step + 1) % self.check == 0:
            stuck = ~ever & (value >= self.tau * duals.checked)
            duals.rho = torch.where(stuck, self.gamma * duals.rho, duals.rho)
            duals.checked = value
        if step:
            mu = self.alpha * duals.mu + (1 - self.alpha) * duals.slope(value)
            duals.mu = mu.clamp(_LEAST, _MOST)
        return duals.slope(value)

    def rate(self, first: Tensor, step: int) -> Tensor:
        """Step sizes (N,) of images first fooled at steps `first` (N,), infinite where never."""
        share = ((step - first) / (self.steps - first)).nan_to_num(0, 0, 0).clamp_min(0)
        return self.lr * torch.where(first.isinf(), 1, self.last_lr**share)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, clean = active_set.Proposals(x), passes.outputs(model, x)
        near = Budget("linf", torch.full_like(proposals.size, self.spread, dtype=torch.float64))
        for turn in range(self.restarts):
            z = norms.Ball.around(x, near).sample(rng.fold(keys, turn)) if turn else x
            self.run(model, x, y, z, clean, budget.norm, proposals)
        minimum_norm.toward_clean(model, x, y, proposals, budget.norm, self.refine)
        tangent_planes.turn(model, x, y, proposals, budget.norm, self.polish)
        return proposals.x_adv

    def run(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        z: Tensor,
        clean: Tensor,
        norm: Norm,
        proposals: active_set.Proposals,
    ) -> None:
        """One search from z (N, C, H, W); `clean` (N, K) are the logits of x. Updates `proposals`."""
        rows = active_set.everything(x)
        square, momentum = torch.ones_like(x), torch.zeros_like(x)
        ones = torch.ones(len(x), device=x.device)
        duals, first = Multipliers(ones, ones, ones), torch.full_like(ones, torch.inf)
        for step in range(self.steps):
            with softened(annealed(self.share, step, self.steps)):
                value, logits, slope = passes.input_gradient(constraint, model, z, y, clean, rows=rows)
            fooled, delta = active_set.misclassified(logits, y), z - x
            proposals.record_smaller(rows, z, fooled, norms.size(delta, norm))
            first = torch.where(fooled, first.clamp_max(step), first)
            pull = self.pull(duals, value, first.isfinite(), step)
            gradient = norms.per_example(pull, x) * slope + norms.steepest(delta, "l2")
            square = self.alpha * square + (1 - self.alpha) * gradient.square()
            momentum = self.alpha * momentum + gradient / (square.sqrt() + _TINY)
            z = (z - norms.per_example(self.rate(first, step), x) * momentum).clamp(0, 1)
        fooled = active_set.misclassified(passes.outputs(model, z, rows=rows), y)
        proposals.record_smaller(rows, z, fooled, norms.size(z - x, norm))
