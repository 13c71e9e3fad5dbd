"""Whether the gradients that attacks follow lead anywhere: measured on clean images before a run, for the audit.

A gradient that is zero, reversed, shattered or that of something else makes every gradient attack fail and the model
look robust. Loss values tell: a small step along a useful gradient raises the margin more than the opposite step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bench.core.types import Budget, Classifier, ImageSet, Norm, Objective, ThreatModel
from bench.evaluation import batching
from bench.ops import losses, norms, passes, rng
from bench.ops.global_random import seeded
from bench.store.record import Gradients

IMAGES = 256
"""How many images, the first ones of a run, the gradients are looked at on."""

_STEP, _AWAY = 0.1, 0.5
_USUAL: dict[Norm, float] = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
"""The eps that stands in for a run's own where it has none: the usual ones of CIFAR-10."""
_DRAWS = 16
"""Draws of a random model over which gradients and margins are averaged."""
_ROUGH, _NEIGHBOURS, _TIMES = 64, 8, 2.0
"""Roughness: how many images, how many points near each, and how much better their mean gradient has to be."""


@dataclass(frozen=True)
class Looked:
    """What gradients are looked at on: clean images (n, C, H, W), labels (n,), points near them, radii eps (n,)."""

    x: Tensor
    y: Tensor
    keys: Tensor
    eps: Tensor
    norm: Norm

    def near(self, draw: int = 0) -> Tensor:
        """A random point (n, C, H, W) within half the budget of each image, where attacks start and go."""
        ball = norms.Ball.around(self.x, Budget(self.norm, self.eps * _AWAY))
        return ball.sample(rng.fold(self.keys, draw))

    def moved(self, z: Tensor, direction: Tensor, share: float) -> Tensor:
        """Points z moved along a direction (n, C, H, W) by a share of the budget, kept in [0, 1]."""
        steepest = norms.steepest(direction, self.norm)
        return (z + steepest * norms.per_example(share * self.eps, z).to(z.dtype)).clamp(0, 1)


def gradient_signs(
    model: Classifier,
    search: Classifier,
    data: ImageSet,
    clean_pred: Tensor,
    threat: ThreatModel,
    batch_size: int,
    device: str = "cpu",
    eot: int | None = None,
) -> Gradients:
    """Step along the gradients of cross-entropy and of the margin, near each of the first images.

    A gradient *misleads* at a point if a step of eps / 10 along it raises the margin of `model` no more than the
    opposite step. It is *rough* there if the mean gradient of eight points near by, followed for eps, raises the margin
    twice as much: it is that of a staircase or a ripple, not of the model at the scale of eps.

    Args:
        model: what is attacked; its margins decide.
        search: the form of it whose gradients attacks follow, or the model itself.
        data: the images of the run; at most `IMAGES` of them are used.
        clean_pred: the model's predictions (N,) on them: where they are wrong nothing is tried.
        threat: the run's, with its largest eps; without one, as in a run of minimal attacks, a usual one is taken.
        batch_size: images at once.
        device: where the model is.
        eot: of a random model, how many draws `search` averages; margins are then means over the same draws.
    """
    eps = threat.eps or _USUAL[threat.norm]
    right = (clean_pred == data.labels).tolist()
    entropy = margin = rough = ""
    for at in range(0, min(len(data), IMAGES), batch_size):
        part = data.select(slice(at, min(at + batch_size, IMAGES)))
        by_entropy, by_margin = (
            _seen(part, partial(_misleads, model, search, objective, eot), threat.norm, eps, device)
            for objective in (losses.ce, losses.logit_margin)
        )
        entropy += _letters(right[at:], by_entropy)
        margin += _letters(right[at:], by_margin)
        if at < _ROUGH and eot is None:
            few = part.select(slice(0, _ROUGH - at))
            rough += _letters(right[at:], _seen(few, partial(_rough, model, search), threat.norm, eps, device))
    return Gradients(step=_STEP * eps, cross_entropy=entropy, margin=margin, rough=rough)


def _seen(part: ImageSet, look: Callable[[Looked], Tensor], norm: Norm, eps: float, device: str) -> Tensor:
    """What a look says of images (n,), in fewer at once where memory runs out."""
    places = torch.arange(len(part))
    return batching.halving(lambda some: look(_looked(part.select(some), norm, eps, device)).cpu(), places, torch.cat)


def _looked(part: ImageSet, norm: Norm, eps: float, device: str) -> Looked:
    indices = part.indices.to(device)
    bound = torch.full((len(part),), eps, dtype=torch.float64, device=device)
    keys = rng.keys(0, indices, "indicators")
    return Looked(part.images[:].to(device), part.labels.to(device), keys, bound, norm)


def _letters(right: Sequence[bool], bad: Tensor) -> str:
    pairs = zip(right, bad.tolist(), strict=False)
    return "".join("-" if not is_right else "x" if is_bad else "." for is_right, is_bad in pairs)


def _misleads(model: Classifier, search: Classifier, objective: Objective, eot: int | None, looked: Looked) -> Tensor:
    """Whether (n,) a small step along the gradient helps no more than the opposite one."""
    draws = 1 if eot is None else _DRAWS
    z, y = looked.near(), looked.y
    gradient = _mean(model, lambda: _gradient(objective, search, z, y), max(1, draws // (eot or 1)))
    ahead, back = (_margins(model, looked.moved(z, gradient, share), y, draws) for share in (_STEP, -_STEP))
    # Where a margin is not finite, nothing helped.
    return ~(ahead > back)


def _rough(model: Classifier, search: Classifier, looked: Looked) -> Tensor:
    """Whether (n,) the mean gradient of points near by leads much further than the gradient at one of them."""
    gradients = [_gradient(losses.logit_margin, search, looked.near(draw), looked.y) for draw in range(_NEIGHBOURS)]
    start = _margins(model, looked.x, looked.y)
    alone, together = (
        _margins(model, looked.moved(looked.x, direction, 1.0), looked.y) - start
        for direction in (gradients[0], torch.stack([norms.unit(part)[0] for part in gradients]).sum(0))
    )
    return together > _TIMES * alone.clamp_min(0)


def _gradient(objective: Objective, search: Classifier, z: Tensor, y: Tensor) -> Tensor:
    """The gradient (n, C, H, W) of an objective; zero where the model has none."""
    try:
        return passes.input_gradient(objective, search, z, y)[2]
    except RuntimeError as fault:
        if passes.out_of_memory(fault):
            raise
        return torch.zeros_like(z)


def _margins(model: Classifier, x: Tensor, y: Tensor, draws: int = 1) -> Tensor:
    return _mean(model, lambda: losses.margin(passes.reference_outputs(model, x), y), draws)


def _mean(model: Classifier, call: Callable[[], Tensor], draws: int) -> Tensor:
    """The mean of a call over draws of a random model, the same ones each time it is asked for."""
    if draws == 1:
        return call()
    values = []
    for draw in range(draws):
        with seeded(model, "indicators", draw):
            values.append(call())
    return torch.stack(values).mean(0)
