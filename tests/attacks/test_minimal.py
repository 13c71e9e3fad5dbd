"""ALMA, PDGD, PDPGD, HopSkipJump, SPSA and transfer against optima that are known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks.budgeted.pgd import PGD
from bench.attacks.budgeted.transfer import Transfer
from bench.attacks.gradient_free.hsj import HopSkipJump
from bench.attacks.gradient_free.spsa import SPSA
from bench.attacks.minimal.alma import ALMA
from bench.attacks.minimal.fab import FABT
from bench.attacks.minimal.pdgd import PDGD, PDPGD, proximal
from bench.core.types import Norm, UserError
from bench.ops import active_set, norms, tangent_planes
from tests.attacks.test_oracles import SHAPE, Broken, Constant, agreed, inner
from tests.support.oracles import Linear, Rectified, attack, images

MINIMAL: list[tuple[Any, Norm]] = [
    (ALMA(steps=200), "l2"),
    (PDGD(), "l2"),
    (PDPGD(), "l2"),
    (PDPGD(), "linf"),
    (PDPGD(), "l1"),
]
named = pytest.mark.parametrize(
    ("method", "norm"), MINIMAL, ids=[f"{type(method).__name__}-{norm}" for method, norm in MINIMAL]
)
# Where the model is linear, with no more classes than `tangent_planes` looks at, an image leaves it only within `GAIN`
# of the nearest adversarial image: the rest is for rounding.
WITHIN = 1 + 1.5 * tangent_planes.GAIN


@named
@pytest.mark.parametrize(("classes", "sharpness"), [(2, 20), (10, 20), (10, 1e-4), (10, 1e4)])
def test_they_reach_the_nearest_boundary_of_a_linear_model(
    method: Any, norm: Norm, classes: int, sharpness: float
) -> None:
    model = Linear(classes, SHAPE, sharpness=sharpness)
    x, y, distance = inner(model, norm)
    ratio = attack(method, model, x, y, norm).size / distance
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= WITHIN


@named
def test_most_searches_come_near_before_they_are_polished(method: Any, norm: Norm) -> None:
    model = Linear(10, SHAPE, sharpness=20)
    x, y, distance = inner(model, norm)
    ratio = attack(replace(method, polish=0), model, x, y, norm).size / distance
    assert ratio.median() <= 1.01


class TestTangent:
    """The turn toward the nearest plane, from wherever a search has ended."""

    @staticmethod
    def turned(model: nn.Module, x: Tensor, y: Tensor, norm: Norm, rounds: int = 5) -> tuple[Tensor, Tensor]:
        """Sizes (N,) of a far adversarial image for each of x (N, C, H, W), before and after."""
        pool = images(200, SHAPE, 0, 1, seed=9)
        classes, held = model(pool).argmax(1), active_set.Proposals(x)
        for place, label in enumerate(y):
            far = pool[classes != label][0]
            held.x_adv[place], held.size[place] = far, norms.size((far - x[place])[None], norm)[0]
        before = held.size.clone()
        tangent_planes.turn(model, x, y, held, norm, rounds)
        assert (model(held.x_adv).argmax(1) != y).all() and held.x_adv.min() >= 0 and held.x_adv.max() <= 1
        torch.testing.assert_close(held.size, norms.size(held.x_adv - x, norm))
        return before, held.size

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("sharpness", [1e-4, 1.0, 1e4])
    def test_ends_at_the_nearest_boundary_of_a_linear_model(self, norm: Norm, sharpness: float) -> None:
        model = Linear(10, SHAPE, sharpness=sharpness).requires_grad_(False)
        x, y, distance = inner(model, norm)
        before, after = self.turned(model, x, y, norm)
        assert (before / distance).min() > 1.1 and (after / distance).max() <= WITHIN

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_the_box_decides_which_boundary_is_nearest(self, norm: Norm) -> None:
        model, x = Linear(10, SHAPE).requires_grad_(False), images(24, SHAPE, 0, 1).round()
        y = model(x).argmax(1)
        known = attack(FABT(refine=12), model, x, y, norm).size
        assert (self.turned(model, x, y, norm)[1] / known).max() <= WITHIN

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_enlarges_nothing_where_planes_mislead(self, norm: Norm) -> None:
        model, x = Rectified(10, SHAPE).requires_grad_(False), images(24, SHAPE, 0.1, 0.9)
        before, after = self.turned(model, x, model(x).argmax(1), norm)
        assert (after <= before).all() and (after / before).median() < 0.5


@cache
def others(norm: Norm) -> tuple[Tensor, Tensor]:
    """Labels of 16 images, and the smallest sizes that other attacks find."""
    return agreed(Rectified(10, SHAPE), images(16, SHAPE, 0.1, 0.9), norm)


@named
def test_they_cross_the_boundary_of_rectified_units(method: Any, norm: Norm) -> None:
    if norm == "l1":
        pytest.skip("nothing to compare with")
    model, x = Rectified(10, SHAPE), images(16, SHAPE, 0.1, 0.9)
    y, best = others(norm)
    size = attack(method, model, x, y, norm).size
    assert size.isfinite().all()
    assert (size / best).median() <= 1.02


@named
def test_pixels_of_exactly_0_and_1_can_move(method: Any, norm: Norm) -> None:
    model = Linear(10, SHAPE)
    x = images(24, SHAPE, 0, 1).round()
    y, distances = model.distances(x, norm)
    outcome = attack(method, model, x, y, norm)
    assert outcome.size.isfinite().all()
    assert (outcome.size >= distances[:, 0] * (1 - 1e-4)).all()


@named
@pytest.mark.parametrize("model", [Constant(), Broken()], ids=["constant", "nan"])
def test_a_model_without_a_gradient_leaves_images_alone(method: Any, norm: Norm, model: nn.Module) -> None:
    x, y = images(5, SHAPE, 0, 1), torch.zeros(5, dtype=torch.int64)
    assert torch.equal(attack(replace(method, steps=20), model, x, y, norm).x_adv, x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_proximal_map_minimises_what_it_should(norm: Norm) -> None:
    z, weight = images(6, SHAPE, -1, 1), torch.linspace(0.05, 3, 6)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]

    def value(point: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(point.flatten(1), ord=order, dim=1)
        return weight * size + (point - z).flatten(1).square().sum(1) / 2

    least = value(proximal(z, weight, norm))
    for key in range(20):
        for scale in (0.3, 0.01):
            nearby = proximal(z, weight, norm) + scale * images(6, SHAPE, -1, 1, seed=key)
            assert (value(nearby) >= least - 1e-6).all()


# 20 pixels need few directions; a boundary that is flat makes the steps go far.
HSJ = HopSkipJump(steps=20, samples=25)


@pytest.mark.parametrize(("norm", "most"), [("l2", 1.05), ("linf", 1.25)])
def test_hopskipjump_comes_near_by_predictions_alone(norm: Norm, most: float) -> None:
    model = Linear(10, SHAPE)
    x, y, distance = inner(model, norm, 12)
    outcome = attack(HSJ, model, x, y, norm)
    assert (outcome.size / distance).min() >= 1 - 1e-4
    assert (outcome.size / distance).median() <= most
    assert (outcome.backwards == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "most"), [("l2", 1.01), ("linf", 1.06)])
def test_hopskipjump_arrives_with_enough_steps(norm: Norm, most: float) -> None:
    model = Linear(10, SHAPE)
    x, y, distance = inner(model, norm, 12)
    assert (attack(HopSkipJump(), model, x, y, norm).size / distance).median() <= most


def test_hopskipjump_starts_from_an_exemplar_where_noise_does_not_fool() -> None:
    class Rare(nn.Module):
        """Class 1 only where all pixels are high: no noise image is."""

        def forward(self, x: Tensor) -> Tensor:
            score = x.flatten(1).amin(1) - 0.8
            return torch.stack([-score, score], 1)

    x, y = images(4, SHAPE, 0.2, 0.6), torch.zeros(4, dtype=torch.int64)
    unbound = HopSkipJump(steps=2, samples=4, starts=3)
    assert attack(unbound, Rare(), x, y, "l2").size.isinf().all()
    bound = replace(unbound, exemplars=(images(6, SHAPE, 0.85, 1), torch.ones(6, dtype=torch.int64)))
    assert attack(bound, Rare(), x, y, "l2").size.isfinite().all()


def test_only_predictions_are_seen_by_hopskipjump() -> None:
    class Coarse(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(super().forward(x).argmax(1), 10).float()

    x, y, _ = inner(Linear(10, SHAPE), "l2", 5)
    few = replace(HSJ, steps=3)
    assert torch.equal(
        attack(few, Coarse(10, SHAPE), x, y, "l2").x_adv, attack(few, Linear(10, SHAPE), x, y, "l2").x_adv
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_spsa_breaks_what_is_well_within_reach(norm: Norm) -> None:
    model = Linear(10, SHAPE, sharpness=20)
    x, y, distance = inner(model, norm, 30)
    eps = float(distance.median())
    outcome = attack(SPSA(samples=32), model, x, y, norm, eps)
    broken = outcome.size.isfinite()
    assert broken[distance < 0.8 * eps].all()
    assert not broken[distance > eps * (1 + 1e-4)].any()
    assert (outcome.backwards == 0).all()
    assert int(outcome.forwards.max()) == 1 + 100 * 33


class TestTransfer:
    def test_needs_a_surrogate(self) -> None:
        with pytest.raises(UserError, match="needs a surrogate"):
            Transfer().bind(_Registry())

    @pytest.mark.parametrize("attack_name", ["cw", "transfer", "pgd(stepz=3)", "mat", "pdg"])
    def test_refuses_attacks_that_do_not_fit(self, attack_name: str) -> None:
        if attack_name == "pgd(stepz=3)":
            with pytest.raises(UserError, match="no field 'stepz': did you mean steps"):
                Transfer(model="linear", attack=attack_name).bind(_Registry())
        else:
            with pytest.raises(UserError, match=r"cannot use|unknown attack"):
                Transfer(model="linear", attack=attack_name).bind(_Registry())

    @pytest.mark.parametrize("attack_name", ["pgd", "bim", "mim", "margin", "pgd(steps=60)", "fgsm"])
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_breaks_what_the_surrogate_shows_at_one_forward_an_image(self, attack_name: str, norm: Norm) -> None:
        # Of two classes every gradient points at the only boundary, and the box leaves room for 1.05 times 0.28.
        for classes, sharpness, slack, least in ((2, 1.0, 1.05, 20), (10, 5.0, 1.2, 18)):
            model = Linear(classes, SHAPE, sharpness=sharpness)
            x, y, distance = inner(model, norm, 20)
            transfer = Transfer(model="linear", attack=attack_name).bind(_Registry(model))
            outcome = attack(transfer, model, x, y, norm, float(distance.max()) * slack)
            assert outcome.size.isfinite().sum() >= least
            assert (outcome.forwards == 1).all() and (outcome.backwards == 0).all()

    def test_climbs_the_surrogate_past_its_boundary(self) -> None:
        model = Linear(10, SHAPE)
        x, y, distance = inner(model, "l2", 20)
        eps = 3 * float(distance.max())
        far = attack(Transfer("linear", "pgd").bind(_Registry()), model, x, y, "l2", eps).size
        near = attack(PGD(random_start=False), model, x, y, "l2", eps).size
        assert far.median() > 1.3 * near.median()


class _Registry:
    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = model or Linear(10, SHAPE)
        self.classes = 10

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        raise AssertionError("nobody asked")

    def surrogate(self, name: str) -> nn.Module:
        return self.model
