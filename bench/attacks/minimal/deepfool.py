"""DeepFool: step to the nearest boundary of the linearised classifier until the prediction changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, losses, minimum_norm, norms, passes
from bench.ops.active_set import Proposals

# Moves an image off an exact tie of two logits, where the estimated distance is zero.
_PUSH = 1e-6


@attacks.register("deepfool")
@dataclass(frozen=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016, algorithm 2 for l2 and section 3.3 for linf).

    The steps are summed; x + (1 + overshoot) times the sum, clipped to [0, 1], is tested, linearised next, and
    returned. The paper overshoots once at the end.

    Args:
        steps: linearisations.
        candidates: classes with the highest logits on the clean image that are looked at, the true one included.
        overshoot: share by which the sum of steps is exceeded.
        refine: bisections at the end between the adversarial image and the clean one, which are not in the paper and
            take the overshoot back.
    """

    steps: int = bounded(50, low=1)
    candidates: int = bounded(10, low=2)
    overshoot: float = bounded(0.02, low=0)
    refine: int = bounded(0, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    minimal: ClassVar[bool] = True

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, norm = Proposals(x), budget.norm
        rows, clean, label, z = active_set.everything(x), x, y, x
        logits = passes.outputs(model, x, rows=rows)
        rivals = losses.strongest_others(logits, y, self.candidates - 1)
        # Testing first keeps fooled images out of the expensive part, a backward pass a rival.
        for step in range(self.steps + 1):
            if step:
                logits = passes.outputs(model, z, rows=rows)
            fooled = active_set.misclassified(logits, label)
            proposals.record_smaller(rows, z, fooled, norms.size(z - clean, norm))
            rows, clean, label, z, rivals = active_set.keep(~fooled, rows, clean, label, z, rivals)
            if step == self.steps or not len(rows) or not rivals.shape[1]:
                break
            move, moves = nearest(model, z, label, rivals, norm, rows)
            z = (z + (1 + self.overshoot) * move).clamp(0, 1)
            rows, clean, label, z, rivals = active_set.keep(moves, rows, clean, label, z, rivals)
        minimum_norm.toward_clean(model, x, y, proposals, norm, self.refine)
        return proposals.x_adv


def nearest(model: Classifier, z: Tensor, y: Tensor, rivals: Tensor, norm: Norm, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest step (N, C, H, W) to a linearised boundary with a rival (N, J), and whether (N,) there is one."""
    values, _, gradients = passes.jacobian(losses.rival_margins, model, z, y, rivals, rows=rows)
    slope = norms.length(gradients.flatten(0, 1), norms.DUAL[norm]).view_as(values)
    distance = torch.where(slope > 0, values.abs() / slope, torch.inf)
    shortest, place = distance.min(1)
    chosen = gradients[torch.arange(len(z), device=z.device), place]
    length = norms.per_example(shortest.nan_to_num(posinf=0) + _PUSH, z)
    return norms.steepest(chosen, norm) * length, shortest.isfinite()
