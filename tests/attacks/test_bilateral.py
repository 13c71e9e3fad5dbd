"""Bilateral training's own attacks."""

from __future__ import annotations

import pytest
import torch

from bench.core.registry import attacks
from bench.core.types import Budget
from bench.ops import adversarial_labels, norms, passes
from bench.ops.adversarial_labels import LabelAdversary
from tests.support import subjects


class TestAttacks:
    def test_bilateral_climbs_the_training_loss(self) -> None:
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 20)
        soft = LabelAdversary()(model(x), y)
        values, _ = adversarial_labels.soft_ce(model, x, y, soft)
        _, _, gradient = passes.input_gradient(adversarial_labels.soft_ce, model, x, y, soft)
        higher, _ = adversarial_labels.soft_ce(model, (x + 1e-3 * gradient.sign()).clamp(0, 1), y, soft)
        assert (higher > values).float().mean() > 0.9
        budget = subjects.budget("linf", 0.3, 20)
        x_adv = attacks["bilateral"](steps=20)(model, x, y, budget, subjects.keys(20))
        assert (model(x_adv).argmax(1) != y).float().mean() > 0.5

    def test_multi_margin_is_at_least_as_strong_as_one_margin(self) -> None:
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 60)
        budget, keys = subjects.budget("linf", 0.04, 60), subjects.keys(60)
        broken = [
            int((model(attacks[name](steps=20)(model, x, y, budget, keys)).argmax(1) != y).sum())
            for name in ("margin", "multi_margin")
        ]
        assert 0 < broken[0] <= broken[1] < 60

    @pytest.mark.parametrize(("within", "free"), [("cw_within", "cw"), ("deepfool_within", "deepfool")])
    def test_what_is_held_to_a_budget_is_the_free_attack_where_it_fits(self, within, free) -> None:
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 40)
        held = attacks[within]()
        fields = {name: getattr(held, name) for name in vars(held)}
        unbounded = attacks[free](**fields)(model, x, y, Budget("l2", None), subjects.keys(40))
        largest = norms.size(unbounded.double() - x.double(), "linf")
        eps = float(largest[largest > 0].median())
        x_adv = held(model, x, y, subjects.budget("linf", eps, 40), subjects.keys(40))
        fits = largest <= eps
        assert torch.equal(x_adv[fits], unbounded[fits]) and torch.equal(x_adv[~fits], x[~fits])
        assert 0 < int((x_adv != x).flatten(1).any(1).sum()) < 40
