"""Attacks against optima that are known, and on models that break careless ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks.budgeted.pgd import PGD
from bench.attacks.minimal.cw import CW
from bench.attacks.minimal.ddn import DDN
from bench.attacks.minimal.deepfool import DeepFool
from bench.attacks.minimal.fmn import FMN
from bench.core.types import Budget, Norm
from bench.ops import rng
from tests.support.oracles import Linear, Rectified, attack, images

SHAPE = (1, 4, 5)
QUICK_CW = CW(steps=300, lr=0.003)
# A step of Adam moves a pixel by up to half of lr: at 0.003 that may be a seventh of the way to the nearest boundary.
NEAR_CW = CW(steps=500, lr=0.001)
MINIMAL: list[tuple[Any, Norm]] = [
    (QUICK_CW, "l2"),
    (DDN(), "l2"),
    (FMN(), "l2"),
    (FMN(), "linf"),
    (FMN(sign=False), "linf"),
    (DeepFool(overshoot=0.005), "l2"),
    (DeepFool(overshoot=0.005), "linf"),
]
QUICK: list[tuple[Any, Norm]] = [(replace(a, searches=3, steps=30) if isinstance(a, CW) else a, n) for a, n in MINIMAL]


FOLLOWERS = (CW, DDN, FMN)
"""They follow the gradient of the margin or of cross-entropy: sure of a boundary, not that it is the nearest."""


def named(cases: list[tuple[Any, Norm]]) -> Any:
    names = [f"{type(attack).__name__}-{norm}-{i}" for i, (attack, norm) in enumerate(cases)]
    return pytest.mark.parametrize(("method", "norm"), cases, ids=names)


def inner(model: Linear, norm: Norm, count: int = 24, ahead: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Images whose nearest adversarial image lies inside the box and is clearly the nearest; labels and distances.

    `ahead` leaves out those on which the margin heads for another class than the nearest, and with it `FOLLOWERS`.
    """
    x = images(4000, SHAPE, 0.3, 0.7)
    y, distances = model.distances(x, norm)
    nearest = distances[:, 0]
    # A pixel moves by at most the size of the perturbation.
    suitable = (nearest < 0.28) & (nearest > (0.05 if norm == "l2" else 0.01))
    if distances.shape[1] > 1:
        suitable &= distances[:, 1] > 1.5 * nearest
    if ahead:
        suitable &= model.ahead(x, norm)
    kept = suitable.nonzero().squeeze(1)[:count]
    assert len(kept) == count
    return x[kept], y[kept], nearest[kept]


@named([(NEAR_CW, "l2"), *MINIMAL[1:]])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_minimal_attacks_reach_the_nearest_boundary_of_a_linear_model(method: Any, norm: Norm, classes: int) -> None:
    model = Linear(classes, SHAPE, sharpness=20)
    x, y, distance = inner(model, norm, ahead=isinstance(method, FOLLOWERS))
    ratio = attack(method, model, x, y, norm).size / distance
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.01


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_refining_takes_the_overshoot_of_deepfool_back(norm: Norm) -> None:
    model = Linear(10, SHAPE)
    x, y, distance = inner(model, norm)
    assert 1.015 < (attack(DeepFool(), model, x, y, norm).size / distance).median() < 1.025
    assert (attack(DeepFool(refine=10), model, x, y, norm).size / distance).max() < 1.003


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("classes", [2, 10])
def test_budgeted_attacks_break_exactly_what_is_within_reach(norm: Norm, classes: int) -> None:
    model = Linear(classes, SHAPE, sharpness=20)
    x, y, distance = inner(model, norm, 60)
    eps = float(distance.median())
    broken = attack(PGD(steps=100, step_size=eps / 10), model, x, y, norm, eps).size.isfinite()
    decided = ((distance / eps) - 1).abs() > 0.01
    assert torch.equal(broken[decided], (distance < eps)[decided])


def agreed(model: nn.Module, x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Labels, and the smallest size that any of several attacks finds."""
    y = model(x).argmax(1).detach()
    tries: list[Any] = [FMN(steps=400), FMN(steps=400, sign=False), DeepFool(overshoot=1e-3, refine=10)]
    tries += [DDN(steps=400)] if norm == "l2" else []
    return y, torch.stack([attack(method, model, x, y, norm).size for method in tries]).amin(0)


@cache
def _rectified(norm: Norm) -> tuple[Rectified, Tensor, Tensor, Tensor]:
    """A net, images, labels, and the smallest sizes known.

    As many images as make the median one of the net: over 32 of them DeepFool, which stops where it first crosses, is
    off by 0.5 to 2.2 % by which were drawn.
    """
    model, x = Rectified(10, SHAPE), images(128, SHAPE, 0.1, 0.9)
    return model, x, *agreed(model, x, norm)


@named(MINIMAL)
def test_minimal_attacks_cross_the_boundary_of_rectified_units(method: Any, norm: Norm) -> None:
    # Plain FMN converges to this model's boundary from the correct side and fools nothing there.
    model, x, y, best = _rectified(norm)
    size = attack(method, model, x, y, norm).size
    assert size.isfinite().all()
    assert (size / best).median() <= 1.02


@named(MINIMAL)
def test_pixels_of_exactly_0_and_1_can_move(method: Any, norm: Norm) -> None:
    model = Linear(10, SHAPE)
    x = images(24, SHAPE, 0, 1).round()
    y, distances = model.distances(x, norm)
    far = replace(method, lr=0.02) if isinstance(method, CW) else method
    outcome = attack(far, model, x, y, norm)
    assert outcome.size.isfinite().all()
    assert outcome.x_adv.min() >= 0
    assert outcome.x_adv.max() <= 1
    assert (outcome.size >= distances[:, 0] * (1 - 1e-4)).all()


@pytest.mark.parametrize("confidence", [0.5, 5.0])
@pytest.mark.parametrize("refine", [0, 8])
def test_confidence_is_the_margin_of_what_is_returned(confidence: float, refine: int) -> None:
    model = Linear(10, SHAPE)
    x, y, _ = inner(model, "l2")
    outcome = attack(replace(QUICK_CW, confidence=confidence, refine=refine), model, x, y, "l2")
    assert outcome.size.isfinite().all()
    assert outcome.margin.min() >= confidence
    assert outcome.margin.median() <= confidence * 1.05 + 0.1


@named(QUICK)
def test_an_image_does_not_depend_on_its_batch(method: Any, norm: Norm) -> None:
    model, x = Rectified(10, (3, 5, 5)), images(7, (3, 5, 5), 0, 1)
    y = model(x).argmax(1).detach()
    keys = rng.keys(0, torch.arange(7), "alone")
    together = method(model, x, y, Budget(norm, None), keys)
    alone = [method(model, x[i : i + 1], y[i : i + 1], Budget(norm, None), keys[i : i + 1]) for i in range(7)]
    assert torch.equal(together, torch.cat(alone))


class Constant(nn.Module):
    """Logits that the image does not change."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([2.0, 1.0, 0.0]) + 0 * x.flatten(1).sum(1, keepdim=True)


class Broken(nn.Module):
    """Logits that are not numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 3), torch.nan) + 0 * x.flatten(1).sum(1, keepdim=True)


@named(QUICK)
@pytest.mark.parametrize("model", [Constant(), Broken()], ids=["constant", "nan"])
def test_a_model_without_a_gradient_leaves_the_images_as_they_are(method: Any, norm: Norm, model: nn.Module) -> None:
    x, y = images(5, SHAPE, 0, 1), torch.zeros(5, dtype=torch.int64)
    assert torch.equal(attack(method, model, x, y, norm).x_adv, x)


@named(QUICK)
def test_saturated_logits_do_not_hide_a_boundary(method: Any, norm: Norm) -> None:
    model = Linear(10, SHAPE, sharpness=1e4)
    x, y, distance = inner(model, norm, ahead=isinstance(method, FOLLOWERS))
    assert model(x).abs().max() > 1e4
    outcome = attack(method, model, x, y, norm)
    assert outcome.size.isfinite().all()
    if not isinstance(method, CW):
        assert (outcome.size / distance).max() <= 1.01


@named(QUICK)
def test_nothing_but_wrong_images_and_an_empty_batch_are_legal(method: Any, norm: Norm) -> None:
    model, x = Linear(10, SHAPE), images(5, SHAPE, 0, 1)
    wrong = (model(x).argmax(1) + 1) % 10
    assert torch.equal(attack(method, model, x, wrong, norm).x_adv, x)
    assert attack(method, model, x[:0], wrong[:0], norm).x_adv.shape == (0, *SHAPE)


def test_ddn_can_keep_to_grey_levels() -> None:
    model, x = Linear(10, SHAPE), images(16, SHAPE, 0, 1)
    x = (x * 255).round() / 255
    y = model.distances(x, "l2")[0]
    grey = attack(DDN(levels=256), model, x, y, "l2").x_adv * 255
    assert (grey - grey.round()).abs().max() < 1e-4


@pytest.mark.parametrize("method", [DDN(), FMN()])
def test_a_step_costs_one_forward_and_one_backward_pass(method: Any) -> None:
    model, x = Rectified(10, SHAPE), images(6, SHAPE, 0, 1)
    outcome = attack(method, model, x, model(x).argmax(1), "l2")
    assert (outcome.forwards == method.steps + 1).all()
    assert (outcome.backwards == method.steps).all()


def test_deepfool_pays_for_each_rival_only_while_an_image_stands() -> None:
    model = Linear(10, SHAPE)
    x, y, _ = inner(model, "l2")
    outcome = attack(DeepFool(candidates=4), model, x, y, "l2")
    assert (outcome.forwards == 3).all()
    assert (outcome.backwards == 3).all()
