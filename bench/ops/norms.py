"""Sizes, balls and steps in linf, l2 and l1, with one eps an example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.types import Budget, Norm
from bench.ops import rng, tiling
from bench.ops.synchronisation import asks

DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The norm in which a gradient's size is its largest gain over steps of size 1."""
TINY = 1e-12
"""What the length of a perturbation is taken for at least where it divides."""
_SMALL, _LARGE = 1e-12, 1e18
# Between these lengths no square that counts vanishes in float32 and none overflows. The length of a gradient follows
# the scale of the logits and may lie anywhere: outside, it is measured in units of its largest entry.
_ORDINARY, _LONG = (1e-3, 1e4), 10


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (N,) so that it broadcasts over the images `like` (N, C, H, W)."""
    return values.view(-1, *[1] * (like.dim() - 1))


def size(delta: Tensor, norm: Norm) -> Tensor:
    """Norm (N,) of perturbations (N, ...), in their own precision."""
    flat = delta.flatten(1)
    # torch's own norms of other orders than 2 take several times as long.
    if norm == "linf":
        return flat.abs().amax(1)
    if norm == "l1":
        return flat.abs().sum(1)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return length


def lawful(x_adv: Tensor, x: Tensor, norm: Norm, eps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sizes (N,) float64 of changes from x to x_adv (N, C, H, W), and whether (N,) these are adversarial by the rules.

    Lawful: finite, in [0, 1], and no larger than eps (N,), if it is given, but for the rounding of float32 storage.
    """
    delta, flat = size(x_adv.double() - x.double(), norm), x_adv.flatten(1)
    allowed = flat.isfinite().all(1) & (flat >= 0).all(1) & (flat <= 1).all(1)
    if eps is not None:
        allowed &= delta <= verdicts.allowed(eps.double(), x.shape[1:].numel(), norm)
    return delta, allowed


def _divide(delta: Tensor, by: Tensor) -> Tensor:
    return delta / per_example(by.clamp_min(TINY), delta)


def _extreme(length: Tensor) -> tuple[Tensor, Tensor | slice | None]:
    """Where (N,) a length is outside the range that float32 measures well, and an index of rows that holds those."""
    extreme = ~((length >= _SMALL) & (length <= _LARGE))
    if not asks(length.device):
        return extreme, slice(None)
    rows = extreme.nonzero().squeeze(1)
    return extreme, rows if len(rows) else None


def _in_units(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, D) in units of their largest entry, and that entry (n, 1); rows of zeros as they are."""
    flat = gradient.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    return flat / largest.where(largest > 0, 1), largest


def length(gradient: Tensor, norm: Norm) -> Tensor:
    """Norm (N,) of gradients (N, ...) of any scale: no square or sum on the way vanishes or overflows."""
    plain = size(gradient, norm)
    extreme, rows = _extreme(plain)
    if rows is None or norm == "linf":
        return plain
    flat, largest = _in_units(gradient[rows])
    exact = size(flat, norm) * largest.squeeze(1)
    plain[rows] = torch.where(extreme[rows] & largest.squeeze(1).isfinite(), exact, plain[rows])
    return plain


def _per_measure(gradient: Tensor, measure: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients (N, ...) of any scale over a measure (n, D) -> (n,) of theirs, and the measure as it was first taken.

    Zero where they are zero.
    """
    by = measure(gradient.flatten(1))
    result = _divide(gradient, by)
    extreme, rows = _extreme(by)
    if rows is not None:
        flat, largest = _in_units(gradient[rows])
        whole = measure(flat)[:, None]
        exact = (flat / whole.where(whole > 0, 1)).view_as(result[rows])
        counts = extreme[rows] & largest.squeeze(1).isfinite()
        result[rows] = torch.where(per_example(counts, exact), exact, result[rows])
    return result, by


def unit(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients (N, ...) of any scale at length 1 in l2, zero where they are zero, and roughly how long (N,) they were.

    The length is exact between 1e-12 and 1e18, and on the right side of these elsewhere.
    """
    return _per_measure(gradient, lambda flat: size(flat, "l2"))


def scale(gradient: Tensor) -> Tensor:
    """What (N,) to divide gradients (N, ...) by for a method whose constants suppose logits of an ordinary scale.

    What brings the length in l2 to 1 where it is short and to 10 where it is long; 1 where it is ordinary, from 1e-3
    to 1e4, and where there is no gradient: there the method is its paper's to the bit.
    """
    own = length(gradient, "l2")
    ordinary = (own >= _ORDINARY[0]) & (own <= _ORDINARY[1])
    unit = torch.where(own > _ORDINARY[1], own / _LONG, own)
    return unit.where(~ordinary & (own > 0) & own.isfinite(), 1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of size 1 in `norm` that climbs the linearised objective fastest, (N, ...); zero where it is flat.

    In l1 that is a single coordinate.
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return unit(gradient)[0]
    flat = gradient.flatten(1)
    if not len(flat):
        return gradient
    place = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign()).view_as(gradient)


def unit_mean(gradient: Tensor) -> Tensor:
    """Gradients (N, ...) divided by their mean magnitude, as MI-FGSM accumulates them (Dong et al. 2018, eq. 6)."""
    return _per_measure(gradient, lambda flat: flat.abs().mean(1))[0]


def onto_l1_ball(delta: Tensor, eps: Tensor) -> Tensor:
    """Euclidean projection of (N, ...) onto l1 balls of radius eps (N,) (Duchi et al. 2008)."""
    flat = delta.flatten(1)
    magnitude, _ = flat.abs().sort(dim=1, descending=True)
    excess = magnitude.cumsum(1) - eps[:, None]
    count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    last = (magnitude * count > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = (excess.gather(1, last - 1) / last).clamp_min(0)
    return (flat.sign() * (flat.abs() - threshold).clamp_min(0)).view_as(delta)


def scaled_into(delta: Tensor, norm: Norm, eps: Tensor) -> Tensor:
    """Shrink the perturbations (N, ...) that are larger than eps (N,) to it, keeping the others."""
    if norm == "linf":
        bound = per_example(eps, delta)
        return delta.clamp(-bound, bound)
    if norm == "l1":
        return torch.where(per_example(size(delta, "l1") > eps, delta), onto_l1_ball(delta, eps), delta)
    return delta * per_example((eps / size(delta, "l2").clamp_min(TINY)).clamp_max(1), delta)


def _toward(x_adv: Tensor, x: Tensor, broken: Tensor) -> Tensor:
    return torch.where(broken, torch.nextafter(x_adv, x), x_adv)


def linf_box(x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (low, high), each like x (N, C, H, W), of the linf ball cut with [0, 1].

    x + eps rounds to nearest and may leave the ball by half a unit in the last place; such bounds move one float
    inward, so that whatever lies between them is lawful exactly, not to a tolerance.
    """
    exact = per_example(eps.double(), x)
    bound = exact.float()
    bound = _toward(bound, torch.zeros_like(bound), bound.double() > exact)
    low, high = (x - bound).clamp_min_(0), (x + bound).clamp_max_(1)
    # In parts also because, in double precision, a batch at once would be the largest thing that an attack keeps.
    for part in tiling.parts(len(x), x[:1].numel(), x.device):
        near, wide = x[part].double(), exact[part]
        low[part] = _toward(low[part], x[part], near - low[part].double() > wide)
        high[part] = _toward(high[part], x[part], high[part].double() - near > wide)
    return low, high


@dataclass(frozen=True)
class Ball:
    """The points within eps of each image, cut with [0, 1]: what a budgeted attack may return."""

    norm: Norm
    x: Tensor
    eps: Tensor
    bounds: tuple[Tensor, Tensor] | None

    @classmethod
    def around(cls, x: Tensor, budget: Budget) -> Ball:
        """The ball of `budget` around images x (N, C, H, W).

        Raises:
            UserError: the budget has no eps.
        """
        eps = budget.bound("a ball")
        return cls(budget.norm, x, eps, linf_box(x, eps) if budget.norm == "linf" else None)

    def keep(self, which: Tensor) -> Ball:
        """The balls of some images: a mask (N,), or places (n,) in ascending order, each once."""
        if which.dtype != torch.bool and len(which) == len(self.x):
            return self  # all of them: nothing need be copied
        bounds = self.bounds and (self.bounds[0][which], self.bounds[1][which])
        return Ball(self.norm, self.x[which], self.eps[which], bounds)

    def project(self, x_adv: Tensor) -> Tensor:
        """The nearest points (N, C, H, W) inside, up to one clip.

        In l2 and l1: onto the ball, then into the box. Clipping toward an x inside the box only shrinks a perturbation.
        """
        if self.bounds is not None:
            return x_adv.clamp(*self.bounds)
        # One part in 2^20 inside, so that rounding cannot push the stored image out of the ball.
        inside = self.eps.to(self.x.dtype) * (1 - 2.0**-20)
        return scaled_into(x_adv - self.x, self.norm, inside).add_(self.x).clamp_(0, 1)

    def step(self, x_adv: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """The nearest points (N, C, H, W) inside to x_adv + length (N,) * direction, in as few sweeps over memory."""
        ahead = torch.addcmul(x_adv, direction, per_example(length, direction))
        return ahead.clamp_(*self.bounds) if self.bounds is not None else self.project(ahead)

    def sample(self, keys: Tensor) -> Tensor:
        """Uniform random points (N, C, H, W) of the ball, clipped into [0, 1].

        linf: uniform in the cube. l2 and l1: a uniform direction at radius eps * U^(1/d).
        """
        x, shape = self.x, self.x.shape[1:]
        if self.norm == "linf":
            delta = rng.uniform(keys, shape) * 2 - 1
            return self.step(x, delta.to(x.dtype), self.eps.to(x.dtype))
        direction = rng.normal(rng.fold(keys, 0), shape)
        if self.norm == "l1":
            direction = rng.signs(rng.fold(keys, 0), shape) * -(1 - rng.uniform(rng.fold(keys, 2), shape)).log()
        radius = self.eps * rng.uniform(rng.fold(keys, 1), ()).double() ** (1 / shape.numel())
        delta = _divide(direction, size(direction, self.norm)) * per_example(radius.float(), x)
        return self.project(x + delta.to(x.dtype))
