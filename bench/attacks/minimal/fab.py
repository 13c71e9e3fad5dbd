"""Fast adaptive boundary attack: projections onto the linearised boundary inside the box, pulled toward the image.

FAB (Croce and Hein 2020, "Minimally distorted adversarial examples", algorithm 1) with the parameters of AutoAttack's
standard version.

Deviations:
- one forward pass tells whether a point is adversarial and gives the gradient there. The authors' code asks for the
  label, draws the point back and runs the model again; here a point that was drawn back is projected onto the plane of
  the boundary where it came from. Sizes are the same on average, smaller in linf, at half the forward passes;
- the attack looks for the smallest perturbation over all targets; given a budget with an eps, as in an ensemble, an
  image leaves once it is adversarial within it, and one that is adversarial only beyond it comes back clean;
- the paper's final search is `refine` bisections toward the clean image where no eps is given, none by default as in
  AutoAttack;
- restarts after the first begin at random points of a ball of half the smallest size so far, half of eps, or half of
  what the box allows, whichever is smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, losses, minimum_norm, norms, passes, rng, tiling
from bench.ops.active_set import Proposals
from bench.ops.tangent_planes import dot, onto_plane


@dataclass(frozen=True)
class _FAB:
    steps: int = bounded(100, low=1)
    restarts: int = bounded(1, low=1)
    alpha_max: float = bounded(0.1, low=0, high=1)
    eta: float = bounded(1.05, low=1)
    beta: float = bounded(0.9, above=0, high=1)
    refine: int = bounded(0, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = True

    def toward(
        self, runs: list[Tensor], model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor
    ) -> Tensor:
        """Make a run for each set of rival classes (N, J) in turn, `restarts` times, and keep the smallest find."""
        proposals = Proposals(x)
        proposals.size = proposals.size.double()
        limit = torch.zeros_like(proposals.size) if budget.eps is None else budget.eps
        hopeful = torch.ones_like(y, dtype=torch.bool) if budget.eps is None else limit > 0
        for turn, rivals in enumerate(runs * self.restarts):
            rows = ((proposals.size > limit) & hopeful).nonzero().squeeze(1)
            start = x[rows]
            if turn >= len(runs):
                reach = minimum_norm.farthest(start, budget.norm) if budget.eps is None else budget.eps[rows]
                near = Budget(budget.norm, proposals.size[rows].minimum(reach) / 2)
                start = norms.Ball.around(start, near).sample(rng.fold(keys[rows], turn))
            self.run(model, budget.norm, x[rows], y[rows], rivals[rows], start, rows, limit[rows], proposals)
        if budget.eps is None:
            proposals.size = proposals.size.to(x.dtype)
            minimum_norm.toward_clean(model, x, y, proposals, budget.norm, self.refine)
        else:
            far = proposals.size > budget.eps
            proposals.x_adv[far] = x[far]
        return proposals.x_adv

    def run(
        self,
        model: Classifier,
        norm: Norm,
        x: Tensor,
        y: Tensor,
        rivals: Tensor,
        z: Tensor,
        rows: Tensor,
        limit: Tensor,
        proposals: Proposals,
    ) -> None:
        """Go from z to the nearest boundary with the rivals (n, J) and along it toward x, recording what is found.

        Images leave once they are found within `limit` (n,).
        """
        for step in range(self.steps + 1):
            if step < self.steps and len(rows):
                values, logits, slopes = passes.jacobian(losses.rival_margins, model, z, y, rivals, rows=rows)
            else:
                logits = passes.outputs(model, z, rows=rows)
            fooled = active_set.misclassified(logits, y)
            proposals.record_smaller(rows, z, fooled, norms.size(z.double() - x.double(), norm))
            on = proposals.size[rows] > limit
            if step == self.steps or not bool(on.any()):
                return
            x, y, rivals, z, rows, limit, fooled, values, slopes = active_set.keep(
                on, x, y, rivals, z, rows, limit, fooled, values, slopes
            )
            value, slope = nearest(values, slopes.nan_to_num(0, 0, 0), norm)
            base = torch.where(norms.per_example(fooled, z), x + self.beta * (z - x), z)
            level, cuts = dot(slope, z) - value, tiling.parts(len(z), z[:1].numel(), z.device)
            z = torch.cat([self.step(x[cut], base[cut], slope[cut], level[cut], norm) for cut in cuts])

    def step(self, x: Tensor, z: Tensor, slope: Tensor, level: Tensor, norm: Norm) -> Tensor:
        """From z (n, C, H, W) to the plane where <slope, z> = level (n,) and past it by `eta`, mixed with x's own foot.

        The weight of x grows with the distance of z from the plane, up to `alpha_max`.
        """
        both, slopes = torch.cat([z, x]), torch.cat([slope, slope])
        move = onto_plane(both, slopes, torch.cat([level, level]) - dot(slopes, both), norm)
        far, own = norms.size(move, norm).clamp_min(1e-8).chunk(2)
        alpha = norms.per_example((far / (far + own)).clamp_max(self.alpha_max), z)
        ahead, foot = (both + self.eta * move).chunk(2)
        return ahead.lerp(foot, alpha).clamp_(0, 1)


def nearest(values: Tensor, slopes: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Of the linearised boundaries with J rivals, the nearest: its value (N,) and slope (N, C, H, W)."""
    dual = norms.length(slopes.flatten(0, 1), norms.DUAL[norm]).view_as(values)
    place = torch.where(dual > 0, values.abs() / dual, torch.inf).argmin(1)
    first = torch.arange(len(place), device=place.device)
    return values[first, place].nan_to_num(0, 0, 0), slopes[first, place]


@attacks.register("fab")
@dataclass(frozen=True)
class FAB(_FAB):
    """Fast adaptive boundary attack, untargeted; see `bench.attacks.minimal.fab` for the algorithm and its fields.

    Each step linearises the difference of every other logit to the true one and heads for the nearest boundary, which
    costs one forward pass and a backward pass for each other class.
    """

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        return self.toward([y.new_zeros(len(y), 0)], model, x, y, budget, keys)


@attacks.register("fab_t")
@dataclass(frozen=True)
class FABT(_FAB):
    """Fast adaptive boundary attack toward each of the `targets` classes that come closest; see this module.

    Those are the highest logits on the clean image, which is run once for them; all other classes if there are fewer. A
    step costs one forward and one backward pass.
    """

    targets: int = bounded(9, low=1)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        logits = passes.outputs(model, x)
        rivals = losses.strongest_others(logits, y, self.targets)
        return self.toward([rival[:, None] for rival in rivals.unbind(1)], model, x, y, budget, keys)
