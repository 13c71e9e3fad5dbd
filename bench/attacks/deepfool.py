"""DeepFool: step to the nearest boundary of the linearised classifier until the prediction changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Norm
from bench.ops import active_set, minimum_norm, norms, passes

_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2"}
# Moves an image off an exact tie of two logits, where the estimated distance is zero.
_PUSH = 1e-6


def margins(model: Any, x: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the rival classes (N, J) minus the true one's: values (N, J) and logits (N, K)."""
    logits = model(x)
    return logits.gather(1, rivals) - logits.gather(1, y[:, None]), logits


@attacks.register("deepfool")
@dataclass(frozen=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al. 2016, algorithm 2 for l2 and section 3.3 for linf).

    The rivals are the classes with the highest logits on the clean image, `candidates` with the true one. The steps are
    summed, and x + (1 + overshoot) times the sum, clipped to [0, 1], is the image that is tested, linearised next, and
    returned; the paper overshoots once at the end. `refine` bisects at the end between the found image and the clean
    one, which is not in the paper and takes the overshoot back.

    An image costs one forward pass a step to be tested and, if it is still right, one forward and a backward pass a
    rival to be linearised: testing first keeps the fooled images out of the expensive part.
    """

    steps: int = bounded(50, low=1)
    candidates: int = bounded(10, low=2)
    overshoot: float = bounded(0.02, low=0)
    refine: int = bounded(0, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    minimal: ClassVar[bool] = True

    def rivals(self, logits: Tensor, y: Tensor) -> Tensor:
        """The classes (N, J) to head for, by the clean logits (N, K)."""
        count = min(self.candidates, logits.shape[1]) - 1
        return logits.scatter(1, y[:, None], -torch.inf).topk(count, dim=1).indices

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        found, norm = active_set.Found(x), budget.norm
        rows, clean, label, z = active_set.everything(x), x, y, x
        logits = passes.outputs(model, x, rows=rows)
        rivals = self.rivals(logits, y)
        for step in range(self.steps + 1):
            if step:
                logits = passes.outputs(model, z, rows=rows)
            fooled = active_set.wrong(logits, label)
            found.record_smaller(rows, z, fooled, norms.size(z - clean, norm))
            rows, clean, label, z, rivals = active_set.keep(~fooled, rows, clean, label, z, rivals)
            if step == self.steps or not len(rows) or not rivals.shape[1]:
                break
            move, moves = nearest(model, z, label, rivals, norm, rows)
            z = (z + (1 + self.overshoot) * move).clamp(0, 1)
            rows, clean, label, z, rivals = active_set.keep(moves, rows, clean, label, z, rivals)
        minimum_norm.toward_clean(model, x, y, found, norm, self.refine)
        return found.x_adv


def nearest(model: Any, z: Tensor, y: Tensor, rivals: Tensor, norm: Norm, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest step (N, C, H, W) to a linearised boundary with a rival (N, J), and whether (N,) there is one."""
    values, _, gradients = passes.jacobian(margins, model, z, y, rivals, rows=rows)
    slope = norms.size(gradients.flatten(0, 1), _DUAL[norm]).view_as(values)
    distance = torch.where(slope > 0, values.abs() / slope, torch.inf)
    shortest, place = distance.min(1)
    chosen = gradients[torch.arange(len(z), device=z.device), place]
    length = norms.per_example(shortest.nan_to_num(posinf=0) + _PUSH, z)
    return norms.steepest(chosen, norm) * length, shortest.isfinite()
