"""Square attack: random search over square windows that looks at scores alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, losses, norms, passes, rng
from bench.ops.active_set import Proposals
from bench.ops.norms import Ball

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@attacks.register("square")
@dataclass(frozen=True)
class Square:
    """Square attack (Andriushchenko et al. 2020, algorithms 1 to 3) on the logit margin, with AutoAttack's parameters.

    A query repaints a square window of the image, and the new image is kept if its margin is better. linf starts from
    vertical stripes, l2 from a 5 by 5 tiling.

    Args:
        queries: queries of a search, besides the starting image, as in AutoAttack.
        p_init: the square's share of the image at first. It is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000
            and 8000 queries, whatever the number of `queries`.
        restarts: searches.

    Deviations:
    - windows, signs and orientations are each image's own, where the authors of AutoAttack draw one window a batch;
    - windows reach the last row and column, as in the paper;
    - a query that would change nothing (in linf often, for one channel) counts as one but is not put to the model,
      since its answer is known.
    """

    queries: int = bounded(5000, low=1)
    p_init: float = bounded(0.8, above=0, high=1)
    restarts: int = bounded(1, low=1)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = False
    gradient_free: ClassVar[bool] = True

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, ball = Proposals(x), Ball.around(x, budget)
        for restart in range(self.restarts):
            rows = (proposals.size.isinf() & (ball.eps > 0)).nonzero().squeeze(1)
            self.search(model, ball.keep(rows), y[rows], rng.fold(keys[rows], restart), rows, proposals)
        return proposals.x_adv

    def side(self, query: int, norm: Norm, height: int, width: int) -> int:
        """The side of the square at a query; in l2 odd and at least 3, if the image is large enough."""
        share = self.p_init / 2 ** sum(query - 1 > halving for halving in _HALVINGS)
        side = round(math.sqrt(share * height * width))
        side = max(side, 1) if norm == "linf" else max(side, 3) // 2 * 2 + 1
        return min(side, height, width)

    def search(
        self, model: Classifier, ball: Ball, y: Tensor, keys: Tensor, rows: Tensor, proposals: Proposals
    ) -> None:
        """One search for images at places `rows` (n,) of the batch; they leave when they are fooled."""
        start, propose = (_stripes, _repaint) if ball.norm == "linf" else (_tiles, _exchange)
        z, score = ball.x.clone(), torch.full((len(y),), -torch.inf, dtype=ball.x.dtype, device=y.device)
        for query in range(self.queries + 1):
            if not len(rows):
                return
            draws = rng.fold(keys, query)
            side = self.side(query, ball.norm, *z.shape[2:])
            z_new, changed = (
                propose(ball, z, draws, side) if query else (start(ball, draws), torch.ones_like(y, dtype=torch.bool))
            )
            asked = active_set.places(changed)
            if asked is None:
                continue
            logits = passes.outputs(model, z_new[asked], rows=rows[asked])
            margin, fooled = torch.full_like(score, -torch.inf), torch.zeros_like(changed)
            margin[asked], fooled[asked] = losses.margin(logits, y[asked]), active_set.misclassified(logits, y[asked])
            better = changed & (margin > score)
            at = active_set.places(better)
            if at is not None:
                score[at] = torch.where(better[at], margin[at], score[at])
                z[at] = torch.where(norms.per_example(better[at], z), z_new[at], z[at])
            proposals.record(rows, z_new, changed & fooled)
            left = active_set.remaining(proposals.stands(rows), query)
            if left is not None:
                rows, y, keys, z, score = (tensor[left] for tensor in (rows, y, keys, z, score))
                ball = ball.keep(left)


def window(draws: Tensor, side: int, height: int, width: int) -> Tensor:
    """Places (N, side * side) of a square in a flattened image, its corner from two uniform draws (N, 2)."""
    # In double precision, so that the product cannot round up to the excluded end.
    top = (draws[:, 0].double() * (height - side + 1)).long()
    left = (draws[:, 1].double() * (width - side + 1)).long()
    line = torch.arange(side, device=draws.device)
    places = (top[:, None] + line)[:, :, None] * width + (left[:, None] + line)[:, None, :]
    return places.flatten(1)


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, -1.0, 1.0)


def _stripes(ball: Ball, keys: Tensor) -> Tensor:
    """linf: every column of every channel at one end of its range."""
    channels, _, width = ball.x.shape[1:]
    low, high = _ends(ball)
    return torch.where(rng.signs(keys, (channels, 1, width)) > 0, high, low)


def _ends(ball: Ball) -> tuple[Tensor, Tensor]:
    return norms.linf_box(ball.x, ball.eps) if ball.bounds is None else ball.bounds


def _repaint(ball: Ball, z: Tensor, keys: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """linf: a window of each channel at one end of its range, which is where a step of 2 eps and a projection lead.

    Tells which images (n,) that changes: only windows are looked at, which are small in most queries.
    """
    channels, height, width = z.shape[1:]
    draws = rng.uniform(keys, (2 + channels,))
    places = window(draws[:, :2], side, height, width)[:, None].expand(-1, channels, -1)
    low, high, before = (image.flatten(2).gather(2, places) for image in (*_ends(ball), z))
    values = torch.where((draws[:, 2:] >= 0.5)[:, :, None], high, low)
    return z.flatten(2).scatter(2, places, values).view_as(z), (values != before).flatten(1).any(1)


def _length(values: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return length


def bump(height: int, width: int) -> Tensor:
    """A pyramid (height, width) that falls from its middle: one half of the paper's eta."""
    rows = (torch.arange(height) - height // 2).abs()
    columns = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(rows[:, None], columns[None])
    terms = torch.arange(1, max(height // 2, width // 2) + 2, dtype=torch.float64).square().reciprocal()
    return terms.flip(0).cumsum(0).flip(0)[ring]


@cache
def eta(side: int) -> Tensor:
    """The l2 pattern (side, side) of length 1: a pyramid above its negative."""
    upper = side // 2
    pattern = torch.cat([bump(upper, side), -bump(side - upper, side)])
    return (pattern / pattern.square().sum().sqrt()).float()


@cache
def _eta_at(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Cached where it is used: a copy to a GPU, at every query, would wait for it.
    return eta(side).to(device, dtype)


def _patterns(turned: Tensor, signs: Tensor, side: int, like: Tensor) -> Tensor:
    """Patterns (N, C, side * side) with the signs (N, C) of their channels, transposed where `turned` (N,)."""
    plain = _eta_at(side, like.dtype, like.device)
    chosen = torch.where(turned[:, None], plain.T.flatten(), plain.flatten())
    signed: Tensor = chosen[:, None] * signs[:, :, None].to(like)
    return signed


def _stretched(ball: Ball, delta: Tensor) -> Tensor:
    """l2: images at distance eps along delta (N, C, H * W), before the clip to the box."""
    length = _length(delta.flatten(1))[:, :, None].clamp_min(norms.TINY)
    scaled = delta * (norms.per_example(ball.eps.to(delta.dtype), delta) / length)
    return ball.project(ball.x + scaled.view_as(ball.x))


def _tiles(ball: Ball, keys: Tensor) -> Tensor:
    """l2: a tiling whose side is a fifth of the image's, one pattern a tile with a sign for each channel."""
    count, channels, height, width = ball.x.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    turned = rng.uniform(rng.fold(keys, 0), (down * across,)) < 0.5
    signs = rng.signs(rng.fold(keys, 1), (down * across, channels))
    tiles = _patterns(turned.flatten(), signs.flatten(0, 1), side, ball.x).view(
        count, down, across, channels, side, side
    )
    delta = torch.zeros_like(ball.x)
    top, left = (height - down * side) // 2, (width - across * side) // 2
    inner = tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, down * side, across * side)
    delta[:, :, top : top + down * side, left : left + across * side] = inner
    return _stretched(ball, delta.flatten(2))


def _exchange(ball: Ball, z: Tensor, keys: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """l2: the second of two windows gives its mass to the first, which turns toward a fresh pattern (algorithm 3).

    Tells which images (n,) that changes.
    """
    channels, height, width = z.shape[1:]
    draws = rng.uniform(keys, (5 + channels,))
    first, second = (
        window(pair, side, height, width)[:, None].expand(-1, channels, -1) for pair in (draws[:, :2], draws[:, 2:4])
    )
    delta = (z - ball.x).flatten(2)
    unused = (ball.eps.square() - delta.flatten(1).double().square().sum(1)).clamp_min(0).to(z.dtype) / channels
    old = delta.gather(2, first)
    held = old.square().sum(2, keepdim=True)
    delta = delta.scatter(2, first, 0)
    held = held + delta.gather(2, second).square().sum(2, keepdim=True)
    new = _patterns(draws[:, 4] < 0.5, _signs(draws[:, 5:]), side, z) + old / _length(old).clamp_min(norms.TINY)
    new = new * ((held + unused[:, None, None]).sqrt() / _length(new).clamp_min(norms.TINY))
    z_new = _stretched(ball, delta.scatter(2, second, 0).scatter(2, first, new))
    return z_new, (z_new != z).flatten(1).any(1)
