"""What an attack finds does not depend on the scale of the logits, as long as float32 holds the gradient.

Scaling logits moves no boundary. Three kinds of attack: those whose objective is free of scale, or is divided by its
own gradient's length, give the same at 1e-30 as at 1e30. Cross-entropy is one where logits are small, but its gradient
vanishes where they are large: those attacks are held to it up to margins of 90 (in linf 12), beyond which float32 has
no smaller number. Between more than two classes its direction turns with the scale (toward the mean of the other
classes where logits are small), so that it is held to the optimum on two.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.core.registry import attacks
from bench.core.types import Budget, Norm
from bench.ops import losses, norms, passes
from tests.attacks.test_edges import Edge
from tests.support import subjects
from tests.support.oracles import Linear, images

SHAPE, COUNT = (1, 4, 4), 16
SCALES = (1e-30, 1e-15, 1e-5, 1e5, 1e15, 1e30)
QUICK = {"searches": 9, "draws": 3, "queries": 60, "samples": 8, "starts": 20, "model": "another", "per_class": 5}
STEPS = {"hsj": 2, "spsa": 10, "cw": 60, "cw_within": 60}
ON_CE = {
    *("pgd", "fgsm", "bim", "mim", "apgd_ce", "kl", "transfer", "multi_targeted", "bim_multi_targeted"),
    *("mim_multi_targeted", "ddn", "bilateral", "adr"),
}
"""Attacks on cross-entropy, or on terms that weigh against it."""
MIXED = {"kl", "bilateral", "adr"}
"""Of those, the ones whose other terms follow another scale than cross-entropy, by definition."""
SEARCHING = {"cw": 0.03, "pdgd": 0.01, "pdpgd": 0.01, "fab": 0.01, "fab_t": 0.01, "alma": 0.01}
"""Attacks that weigh a size against a loss: sizes may differ by this share, and more on single images."""
FREE = [
    (name, norm)
    for name, kind in attacks.items()
    if name not in ON_CE and name not in ("autoattack", "transfer")
    for norm in kind.norms
]


def made(name: str, model: Any) -> Any:
    kind = attacks[name]
    known = {field.name for field in fields(kind)}
    values = {field: value for field, value in {**QUICK, "steps": STEPS.get(name, 20)}.items() if field in known}
    attack = kind(**values)
    return attack.bind(subjects.Scene(model, SHAPE)) if hasattr(attack, "bind") else attack


def found(name: str, norm: Norm, model: Any, eps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sizes (N,) of what an attack finds, infinite where nothing."""
    attack = made(name, model)
    budget = Budget(norm, None if attack.minimal else eps)
    with passes.counted(len(x)) as tally:
        x_adv = attack(model, x, y, budget, subjects.keys(len(x)))
    assert not tally.not_finite.any()
    size = norms.size(x_adv.double() - x.double(), norm)
    return torch.where(model(x_adv).argmax(1) != y, size, torch.inf)


@pytest.mark.parametrize(("name", "norm"), FREE)
def test_the_same_is_broken_at_every_scale(name: str, norm: Norm) -> None:
    # C&W's c counts in another unit where logits are of no ordinary scale, and what it reaches in few steps differs.
    plain = subjects.frozen(Edge(SHAPE, 5, 1e-15 if name == "cw_within" else 1.0, 0.0))
    x, y = subjects.images(plain, COUNT, SHAPE)
    eps = torch.full((COUNT,), 1.5 * subjects.EPS[norm], dtype=torch.float64)
    sizes = found(name, norm, plain, eps, x, y)
    assert sizes.isfinite().any()
    for scale in SCALES:
        again = found(name, norm, subjects.frozen(Edge(SHAPE, 5, scale, 0.0)), eps, x, y)
        differ = int((again.isfinite() != sizes.isfinite()).sum())
        # Long gradients are brought to 10, short ones to 1: the constant that C&W starts from is another one there.
        assert differ <= (3 if name == "cw_within" else 1 if name in SEARCHING else 0), scale
        if attacks[name].minimal:
            both = again.isfinite() & sizes.isfinite()
            apart = (again[both] / sizes[both] - 1).abs()
            assert apart.median() <= SEARCHING.get(name, 1e-3), (scale, apart)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", sorted(ON_CE - MIXED - {"ddn"}))
def test_attacks_on_cross_entropy_break_what_can_be_broken_of_two_classes(name: str, norm: Norm) -> None:
    """At 1.1 times the distance to the boundary, down to the smallest logits and up to margins of 90."""
    plain = subjects.frozen(Linear(2, SHAPE))
    x = images(200, SHAPE, 0.35, 0.65)
    y, far = plain.distances(x, norm)
    near = ((far[:, 0] < 0.3) & (far[:, 0] > 0.01)).nonzero().squeeze(1)[:COUNT]
    x, y, eps = x[near], y[near], 1.1 * far[near, 0]
    # Random starts may lie as far on the other side.
    # In linf cross-entropy is the papers', whose slope of the true logit is rounded away from margins of 16 on.
    reach = (6 if norm == "linf" else 45) / losses.margin(plain(x), y).abs().max().item()
    # A single step of momentum, or one pixel a step in l1, does not come this near to the optimum.
    eps = 1.3 * eps if norm == "l1" else eps
    for scale in (1e-30, 1e-15, 1e-3, 1.0, reach / 4, reach):
        model = subjects.frozen(Linear(2, SHAPE, sharpness=scale))
        ours = found(name, norm, model, eps, x, y).isfinite()
        assert ours.float().mean() >= (0.9 if norm == "l1" else 1.0), (scale, ours)


def test_ddn_reaches_the_boundary_of_two_classes_at_every_scale() -> None:
    for scale in SCALES:
        model = subjects.frozen(Linear(2, SHAPE, sharpness=scale))
        x = images(200, SHAPE, 0.35, 0.65)
        y, far = subjects.frozen(Linear(2, SHAPE)).distances(x, "l2")
        near = ((far[:, 0] < 0.3) & (far[:, 0] > 0.03)).nonzero().squeeze(1)[:COUNT]
        attack = attacks["ddn"]()
        z = attack(model, x[near], y[near], Budget("l2", None), subjects.keys(len(near)))
        ratio = norms.size(z.double() - x[near].double(), "l2") / far[near, 0]
        assert (model(z).argmax(1) != y[near]).all() and ratio.max() <= 1.02, scale


class TestDirections:
    @pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-12, 1.0, 1e12, 1e30, 1e38])
    def test_steepest_is_the_gradient_at_length_1(self, scale: float) -> None:
        raw = torch.randn(4, 3, 5, 5) / 4
        raw[1] = 0
        raw[3, 0, 0, 0] = 3.0
        given = raw.double().mul(scale).float()
        exact = given.double() / norms.size(given.double(), "l2").clamp_min(1e-300)[:, None, None, None]
        step = norms.steepest(given, "l2").double()
        assert step.isfinite().all() and (step - exact).abs().amax() <= 1e-6
        assert (step[1] == 0).all()
        mean = norms.unit_mean(given).double()
        assert torch.allclose(mean[[0, 2, 3]].abs().mean((1, 2, 3)), torch.ones(3).double(), atol=1e-5)

    @pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30, 1e37])
    def test_lengths_are_those_of_double_precision(self, scale: float) -> None:
        given = (torch.rand(4, 3, 2, 2).double() * scale).float()
        for norm in ("l2", "l1", "linf"):
            exact = norms.size(given.double(), norm)
            assert torch.allclose(norms.length(given, norm).double(), exact, rtol=1e-5, atol=0)

    def test_ordinary_gradients_are_divided_as_before(self) -> None:
        given = torch.randn(6, 2, 3, 3)
        given[2] *= 1e-30
        usual = given / norms.per_example(norms.size(given, "l2").clamp_min(norms.TINY), given)
        assert torch.equal(norms.steepest(given, "l2")[[0, 1, 3, 4, 5]], usual[[0, 1, 3, 4, 5]])


class TestCrossEntropy:
    @pytest.mark.parametrize("margin", [1.0, 10.0, 13.0, 15.0, 17.0, 30.0, 60.0, 85.0])
    def test_its_gradient_is_that_of_double_precision(self, margin: float) -> None:
        logits = torch.tensor([[margin, 0.0, -1.0, -3.0]], requires_grad=True)
        double = logits.detach().double().requires_grad_()
        (ours,) = torch.autograd.grad(losses.steep_cross_entropy(logits, torch.tensor([0])).sum(), logits)
        true = torch.log1p((double[:, 1:] - double[:, :1]).exp().sum(1))
        (exact,) = torch.autograd.grad(true.sum(), double)
        assert torch.allclose(ours.double() / exact.abs().amax(), exact / exact.abs().amax(), atol=0.06, rtol=0)
        if margin > 14:
            assert torch.allclose(ours.double() / exact, torch.ones(1, 4).double(), atol=1e-4)

    def test_it_is_the_usual_one_to_the_bit_where_the_softmax_is_not_sure(self) -> None:
        logits = torch.cat([torch.randn(30, 5) * 4, torch.tensor([[40.0, 0, 0, 0, 0]])]).requires_grad_()
        y = torch.arange(31) % 5
        usual = losses.cross_entropy(logits, y)
        common = usual.detach() >= 2.0**-20
        ours = losses.steep_cross_entropy(logits, y)
        (slope,), (plain,) = (torch.autograd.grad(values.sum(), logits) for values in (ours, usual))
        assert torch.equal(ours[common], usual[common]) and torch.equal(slope[common], plain[common])
        assert not common.all()


def test_normalised_ce_gives_one_gradient_at_every_scale() -> None:
    logits = torch.randn(5, 4)
    y = logits.argmax(1)
    steps = []
    for scale in (1e-35, 1e-20, 1.0, 1e20, 1e35):
        x = (logits * scale).requires_grad_()
        values, _ = losses.NormalisedCE()(lambda part: part, x, y)
        steps.append(norms.steepest(torch.autograd.grad(values.sum(), x)[0], "l2"))
    assert all(torch.allclose(step, steps[2], atol=1e-5) for step in steps)
