"""Many points of each image at once: a population that climbs, and that its image leaves as soon as one is a find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.types import Classifier
from bench.ops import active_set, losses, norms, passes
from bench.ops.active_set import Proposals
from bench.ops.ascent import Schedule
from bench.ops.norms import Ball
from bench.ops.softened import softened


def repeated(ball: Ball, count: int) -> Ball:
    """The balls (N,) of images, each `count` times in a row: those of their points."""
    bounds = ball.bounds and (ball.bounds[0].repeat_interleave(count, 0), ball.bounds[1].repeat_interleave(count, 0))
    return Ball(ball.norm, ball.x.repeat_interleave(count, 0), ball.eps.repeat_interleave(count, 0), bounds)


@dataclass
class Crowd:
    """The images that are still searched, and the best points of each.

    Attributes:
        rows: places (n,) of the images in the batch that the attack was given.
        ball: where their points stay.
        y: labels (n,).
        target: the class (n,) that the points climb toward.
        keys: keys (n,) of the search.
        z: points (n, P, C, H, W).
        value: logit of the target minus that of the label (n, P) at each.
    """

    rows: Tensor
    ball: Ball
    y: Tensor
    target: Tensor
    keys: Tensor
    z: Tensor
    value: Tensor

    @classmethod
    def empty(cls, rows: Tensor, ball: Ball, y: Tensor, target: Tensor, keys: Tensor) -> Crowd:
        """A crowd without points."""
        value = ball.x.new_zeros(len(rows), 0)
        return cls(rows, ball, y, target, keys, ball.x[:, None][:, :0], value)

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, z: Tensor, value: Tensor, size: int) -> None:
        """Take in points (n, M, C, H, W) with their values (n, M), and keep the `size` best of each image."""
        z, value = torch.cat([self.z, z], 1), torch.cat([self.value, value], 1)
        order = value.argsort(dim=1, descending=True, stable=True)[:, :size]
        self.z, self.value = z[torch.arange(len(z), device=z.device)[:, None], order], value.gather(1, order)


def _first(fooled: Tensor, points: Tensor) -> Tensor:
    """Of each image the first point (n, C, H, W) that is fooled, by masks (n, M) and points (n, M, C, H, W)."""
    place = fooled.to(torch.uint8).argmax(1)
    return points[torch.arange(len(points), device=points.device), place]


def climb(
    model: Classifier, crowd: Crowd, z: Tensor, schedule: Schedule, proposals: Proposals
) -> tuple[Tensor, Tensor]:
    """Climb the logit of the target over that of the label from points z (n, M, C, H, W) of each image.

    A step is a pass for each point. The first misclassified point of an image is recorded in `proposals`, and the image
    leaves the crowd with all its points.

    Args:
        model: the classifier.
        crowd: whose points they are; it is cut to the images that are left.
        z: where to begin.
        schedule: the steps, with a size of its own (n,) for each image.
        proposals: of the whole batch.

    Returns:
        The last points (n', M, C, H, W) of the images that are left, and their values (n', M).
    """
    count, shape, length = z.shape[1], z.shape[2:], schedule.step_size

    def spread() -> tuple[Ball, Tensor, Tensor, Tensor, Tensor]:
        y, target, rows, size = (
            part.repeat_interleave(count, 0) for part in (crowd.y, crowd.target, crowd.rows, length)
        )
        return repeated(crowd.ball, count), y, target, rows, size

    def leave(logits: Tensor, step: int | None) -> Tensor | None:
        """Record finds; the places of the points that go on where images leave after this step."""
        nonlocal length
        fooled = active_set.misclassified(logits, y).view(-1, count)
        if active_set.maybe(fooled):
            proposals.record(crowd.rows, _first(fooled, flat.view(-1, count, *shape)), fooled.any(1))
        stands = proposals.stands(crowd.rows)
        left = stands.nonzero().squeeze(1) if step is None else active_set.remaining(stands, step)
        if left is None or len(left) == len(crowd):
            return None
        active_set.cut(crowd, left)
        length = length[left]
        return (left[:, None] * count + torch.arange(count, device=left.device)).flatten()

    flat = z.flatten(0, 1)
    ball, y, target, rows, size = spread()
    for step in range(schedule.steps):
        with softened(schedule.softness(step)):
            _, logits, gradient = passes.input_gradient(losses.rival_margin, model, flat, y, target, rows=rows)
        left = leave(logits, step)
        if left is not None:
            flat, gradient = flat[left], gradient[left]
            ball, y, target, rows, size = spread()
            if not len(flat):
                break
        flat = ball.step(flat, norms.steepest(gradient, ball.norm), size * schedule.factor(step))
        del gradient
    logits = passes.outputs(model, flat, rows=rows)
    left = leave(logits, None) if len(flat) else None
    value = losses.rises(logits, y, target[:, None]).squeeze(1).nan_to_num(-torch.inf)
    if left is not None:
        flat, value = flat[left], value[left]
    return flat.view(-1, count, *shape), value.view(-1, count)
