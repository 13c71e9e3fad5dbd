"""Planes: the smallest step to one inside the box, and boundaries of a model linearised as planes.

`turn` ends a minimal search with them. Bisecting toward the clean image shortens a perturbation and keeps its
direction; a search whose weights follow its images with a delay swings about the boundary, and where it stops the
direction may be off, or belong to a class farther away than another. So the boundaries with the strongest other classes
are linearised at the adversarial image, and the perturbation turns toward the foot of the clean image on the nearest of
these planes. Where the model is linear and has at most `RIVALS` + 1 classes, that foot is the nearest adversarial
image: whatever the search had reached, the size is then within `GAIN` of the optimum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.types import Classifier, Norm
from bench.ops import active_set, losses, minimum_norm, norms, passes, tiling
from bench.ops.active_set import Proposals

RIVALS = 9
"""Boundaries that are linearised at most: one backward pass each."""
GAIN = 1e-3
"""An image goes on while a plane promises a perturbation that is smaller by more than this share."""
_TINY = 1e-30
_TRIES, _BISECTIONS = 3, 10


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products (N,) of images (N, C, H, W), in double precision."""
    return (a.double() * b.double()).flatten(1).sum(1)


def onto_plane(z: Tensor, slope: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The smallest step (N, C, H, W) from z, in `norm`, to the plane where <slope, step> = gap (N,), inside [0, 1].

    Where the box does not reach the plane, the step to its corner nearest to it. In the precision of z.
    """
    # In linf all pixels move at one pace until they meet a face of the box, in l2 in proportion to their slope, in l1
    # one after the other, the steepest first. Slopes are relative to the steepest.
    start, w = z.flatten(1), slope.flatten(1)
    steepest = w.abs().amax(1, keepdim=True)
    steepest = steepest.where(steepest > 0, 1)
    w = w * torch.where(gap < 0, -1.0, 1.0).to(w)[:, None] / steepest
    gain, goal = w.abs(), (gap.abs()[:, None] / steepest).to(w)
    # Spelled out, as a `where` between masks takes three times as long on a CPU: 1 - start uphill, start downhill.
    room = torch.addcmul(start, (w > 0).to(w), 1 - 2 * start)
    moved = _steepest_first(gain, room, goal) if norm == "l1" else _together(gain, room, goal, norm)
    return (w.sign() * moved).view_as(z)


def _steepest_first(gain: Tensor, room: Tensor, goal: Tensor) -> Tensor:
    """Distances (N, D) that gain the goal (N, 1) with the smallest sum, each within its room."""
    rate, order = gain.sort(dim=1, descending=True, stable=True)
    worth = rate * room.gather(1, order)
    before = F.pad(worth.cumsum(1)[:, :-1], (1, 0))
    part = (goal - before).clamp_min(0).minimum(worth) / rate.clamp_min(_TINY)
    return torch.zeros_like(part).scatter(1, order, part).minimum(room)


def _together(gain: Tensor, room: Tensor, goal: Tensor, norm: Norm) -> Tensor:
    """Distances (N, D) that gain the goal (N, 1) with the smallest maximum or sum of squares, each within its room.

    What is gained up to a time is concave and piecewise linear, so that Newton's steps from zero rise to the time
    sought and reach it, in a handful of them.
    """
    pace = gain + (gain == 0).to(gain) if norm == "l2" else torch.ones_like(gain)
    bends, worth, rate = room / pace, gain * room, gain * pace
    time = torch.zeros_like(goal)
    for _ in range(gain.shape[1] + 1):
        there = (bends <= time).to(gain)
        left = goal - (worth * there).sum(1, keepdim=True)
        later = left / (rate - rate * there).sum(1, keepdim=True).clamp_min(_TINY)
        # A row that has arrived stays as it is while others go on: its bits must not depend on theirs.
        on = later > time * (1 + 4 * torch.finfo(gain.dtype).eps)
        if not bool(on.any()):
            break
        time = torch.where(on, later, time)
    return (pace * time).minimum(room)


def strongest_margins(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The highest logits but that of y (N,), at most `RIVALS` of them, minus that of y: (N, J); logits (N, K)."""
    logits = model(x)
    rivals = losses.strongest_others(logits.detach(), y, RIVALS)
    return logits.gather(1, rivals) - logits.gather(1, y[:, None]), logits


def nearest_foot(x: Tensor, z: Tensor, values: Tensor, slopes: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Steps (N, C, H, W) in the box from x to the nearest of J planes, and their sizes (N,), infinite without one.

    The planes are where `values` (N, J) at the images z, continued along `slopes` (N, J, C, H, W), are zero.
    """
    start, way = (part[:, None].expand_as(slopes).flatten(0, 1) for part in (x, z - x))
    slope = slopes.flatten(0, 1)
    gap = dot(slope, way) - values.flatten()
    step = onto_plane(start, slope, gap, norm)
    # A plane that the box does not reach is missed; one on whose far side x lies is none that x could cross.
    met = (gap > 0) & (dot(slope, step) >= gap * (1 - GAIN))
    size, place = torch.where(met, norms.size(step, norm), torch.inf).view_as(values).min(1)
    return step.view_as(slopes)[torch.arange(len(x), device=x.device), place], size


def _linearised(model: Classifier, x: Tensor, y: Tensor, z: Tensor, norm: Norm, rows: Tensor) -> tuple[Tensor, Tensor]:
    """`nearest_foot` on boundaries linearised at images z (n, C, H, W): a forward, up to `RIVALS` backward passes."""
    values, _, slopes = passes.jacobian(strongest_margins, model, z, y, rows=rows)
    slopes = slopes.nan_to_num(0, 0, 0)
    cuts = tiling.parts(len(z), slopes[:1].numel(), z.device)
    parts = [nearest_foot(x[cut], z[cut], values[cut], slopes[cut], norm) for cut in cuts]
    steps, sizes = zip(*parts, strict=True)
    return torch.cat(steps), torch.cat(sizes)


def turn(model: Classifier, x: Tensor, y: Tensor, proposals: Proposals, norm: Norm, rounds: int) -> None:
    """Turn the proposals for images x (N, C, H, W), labels y (N,), toward the nearest plane. Updates `proposals`.

    In each round an image costs a forward and up to `RIVALS` backward passes; if a plane promises more than `GAIN`, up
    to three forward passes that test directions, from that of the foot to the present one, at the present size; and,
    where one of them fools the model, ten that bisect toward the clean image. An image leaves where nothing is gained.
    """
    rows = (proposals.size.isfinite() & (proposals.size > 0)).nonzero().squeeze(1)
    for _ in range(rounds):
        if not len(rows):
            return
        clean, label, held = x[rows], y[rows], proposals.x_adv[rows]
        foot, size = _linearised(model, clean, label, held, norm, rows)
        hopeful = size < proposals.size[rows] * (1 - GAIN)
        rows = _tried(model, proposals, norm, *active_set.keep(hopeful, clean, label, held, foot, rows))
        minimum_norm.toward_clean(model, x, y, proposals, norm, _BISECTIONS, rows=rows)


def _tried(
    model: Classifier, proposals: Proposals, norm: Norm, x: Tensor, y: Tensor, held: Tensor, foot: Tensor, rows: Tensor
) -> Tensor:
    """Test directions between the foot (n, C, H, W) and the image held; return the places (m,) where one was kept."""
    turned = torch.zeros_like(proposals.size, dtype=torch.bool)
    for place in range(_TRIES):
        if not len(rows):
            break
        delta = (held - x).lerp(foot, 0.5**place)
        scale = proposals.size[rows] * (1 - GAIN / 2) / norms.size(delta, norm).clamp_min(norms.TINY)
        z = (x + delta * norms.per_example(scale, delta)).clamp_(0, 1)
        fooled = active_set.misclassified(passes.outputs(model, z, rows=rows), y)
        kept = proposals.record_smaller(rows, z, fooled, norms.size(z - x, norm))
        turned[rows] = kept
        x, y, held, foot, rows = active_set.keep(~kept, x, y, held, foot, rows)
    return turned.nonzero().squeeze(1)
