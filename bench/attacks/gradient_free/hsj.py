"""HopSkipJump: a search along the decision boundary that sees predicted classes only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm, Scene
from bench.ops import active_set, minimum_norm, norms, passes, rng
from bench.ops.active_set import Proposals

_HALVINGS = 25


@attacks.register("hsj")
@dataclass(frozen=True)
class HopSkipJump:
    """HopSkipJump attack (Chen et al. 2020, algorithm 2), untargeted, in l2 and linf, from predicted classes alone.

    Each round estimates the boundary's normal from the predictions at random points around the image, steps along it,
    halving the step until the image is adversarial, and bisects back toward the clean image.

    Args:
        steps: rounds; with the defaults, which are foolbox's, they come to about 35 000 forward passes an image.
        samples: random points of the first round; they grow with the root of the round.
        max_samples: the most of a round.
        starts: uniform noise images, of which the first misclassified one is where a search starts.
        per_class: exemplars of each class; without such noise, the nearest misclassified exemplar is the start.

    Deviations: the start is drawn by key; the smallest image met on the way is returned, not the last; a halving that
    does not end in 25 tries leaves the image where it is.
    """

    steps: int = bounded(64, low=1)
    samples: int = bounded(100, low=1)
    max_samples: int = bounded(10_000, low=1)
    starts: int = bounded(100, low=0)
    per_class: int = bounded(10, low=1)
    exemplars: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False, metadata={"bound": True})

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    minimal: ClassVar[bool] = True
    gradient_free: ClassVar[bool] = True

    def bind(self, scene: Scene) -> HopSkipJump:
        """Fetch the exemplars before a run."""
        return replace(self, exemplars=scene.exemplars(self.per_class))

    def start(self, model: Classifier, x: Tensor, y: Tensor, keys: Tensor, norm: Norm) -> Proposals:
        """The first adversarial images, however far away."""
        proposals = Proposals(x)
        proposals.record(active_set.everything(x), x, active_set.misclassified(passes.outputs(model, x), y))
        for draw in range(self.starts):
            rows = proposals.missing
            if not len(rows):
                return proposals
            z = rng.uniform(rng.fold(keys[rows], draw), x.shape[1:]).to(x.dtype)
            fooled = active_set.misclassified(passes.outputs(model, z, rows), y[rows])
            proposals.record_smaller(rows, z, fooled, norms.size(z - x[rows], norm))
        if self.exemplars is not None and len(proposals.missing):
            images = self.exemplars[0].to(x)
            logits = passes.reference_outputs(model, images)
            for row in proposals.missing.tolist():
                size = norms.size(images - x[row], norm)
                usable = active_set.misclassified(logits, y[row].expand(len(images)))
                nearest = torch.where(usable, size, torch.inf).argmin()[None]
                proposals.record_smaller(y.new_tensor([row]), images[nearest], usable[nearest], size[nearest])
        return proposals

    def normal(
        self, model: Classifier, z: Tensor, y: Tensor, reach: Tensor, keys: Tensor, rows: Tensor, step: int, norm: Norm
    ) -> Tensor:
        """The estimated way out of class y (n, C, H, W), of size 1 in `norm`, from random points `reach` (n,) away."""
        count = min(int(self.samples * math.sqrt(step)), self.max_samples)
        signed, plain, total = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(reach)
        for draw in range(count):
            key = rng.fold(keys, draw)
            raw = rng.normal(key, z.shape[1:]) if norm == "l2" else 2 * rng.uniform(key, z.shape[1:]) - 1
            near = (z + norms.steepest(raw.to(z.dtype), "l2") * norms.per_example(reach, z)).clamp(0, 1)
            offset = (near - z) / norms.per_example(reach, z)
            vote = active_set.misclassified(passes.outputs(model, near, rows), y).to(z.dtype) * 2 - 1
            signed += offset * norms.per_example(vote, z)
            plain += offset
            total += vote
        # Votes that all agree are not centred: there would be nothing left.
        share = torch.where(total.abs() == count, 0, total / count)
        return norms.steepest(signed - plain * norms.per_example(share, z), norm)

    def jump(self, model: Classifier, z: Tensor, y: Tensor, direction: Tensor, length: Tensor, rows: Tensor) -> Tensor:
        """The first adversarial images (n, C, H, W) along the direction, at `length` (n,), half of it, a quarter."""
        landed, place = z.clone(), active_set.everything(z)
        for _ in range(_HALVINGS):
            ahead = (z[place] + direction[place] * norms.per_example(length[place], z)).clamp(0, 1)
            fooled = active_set.misclassified(passes.outputs(model, ahead, rows[place]), y[place])
            landed[place[fooled]] = ahead[fooled]
            place = place[~fooled]
            if not len(place):
                break
            length = length / 2
        return landed

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        norm, pixels = budget.norm, max(x.shape[1:].numel(), 2)
        # The paper's tolerance, as a share of the present size: d^-1.5 in l2 and d^-2 in linf.
        bisections = math.ceil((1.5 if norm == "l2" else 2) * math.log2(pixels))
        best = self.start(model, x, y, rng.fold(keys, 0), norm)
        minimum_norm.toward_clean(model, x, y, best, norm, bisections)
        rows = (best.size.isfinite() & (best.size > 0)).nonzero().squeeze(1)
        every = torch.ones_like(rows, dtype=torch.bool)
        z, size = best.x_adv[rows], best.size[rows]
        for step in range(1, self.steps + 1 if len(rows) else 1):
            reach = torch.full_like(size, 0.1) if step == 1 else size / pixels
            direction = self.normal(model, z, y[rows], reach, rng.fold(keys[rows], step), rows, step, norm)
            z = self.jump(model, z, y[rows], direction, size / math.sqrt(step), rows)
            shrunk = Proposals(x)
            shrunk.record_smaller(rows, z, every, norms.size(z - x[rows], norm))
            minimum_norm.toward_clean(model, x, y, shrunk, norm, bisections)
            z, size = shrunk.x_adv[rows], shrunk.size[rows]
            best.record_smaller(rows, z, every, size)
        return best.x_adv
