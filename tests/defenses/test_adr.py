"""ADR as a defense: what is trained, and which attacks it is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import defenses
from bench.core.types import UserError
from bench.ops import latent_losses, losses
from bench.ops.latent_losses import Divergence
from defenses.defense import Trainee
from defenses.training import recipe as recipes
from tests.defenses.test_training import _batch, _model
from tests.support.adr import OFF

QUICK = {"eps": "0.1", "step_size": "0.05", "steps": 3}


VARIANTS = {
    "adv": OFF,
    "adr": {},
    "port": {"form": "port"},
    "lc": OFF | {"lc": 1.0},
    "gb": OFF | {"gb": 1.0},
    "conf": {"conf": 1.0},
    "trades": {"base": "trades"},
}


class TestDefense:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_loss_is_a_finite_scalar_that_falls(self, variant: str) -> None:
        defense, model, (x, y, keys) = defenses["adr"](**QUICK, **VARIANTS[variant]), _model("natural"), _batch()
        trainee = Trainee(model, nn.ModuleDict(), {"model": torch.optim.SGD(model.parameters(), 0.02, 0.9)})
        values = [float(defense.step(trainee, x, y, keys)) for _ in range(12)]
        assert all(math.isfinite(value) for value in values) and min(values[-3:]) < values[0]

    def test_without_components_it_is_half_clean_half_adversarial(self) -> None:
        model, (x, y, keys) = _model("natural").eval(), _batch()
        madry = defenses["madry"](**QUICK).loss(model, x, y, keys)
        clean = losses.cross_entropy(model(x), y).mean()
        torch.testing.assert_close(defenses["adr"](**QUICK, **OFF).loss(model, x, y, keys), (clean + madry) / 2)
        torch.testing.assert_close(defenses["adr"](form="port", **QUICK, **OFF).loss(model, x, y, keys), clean + madry)
        trades = defenses["trades"](beta=3.0, **QUICK)
        other = defenses["adr"](base="trades", beta=3.0, **QUICK, **OFF)
        torch.testing.assert_close(other.loss(model, x, y, keys), trades.loss(model, x, y, keys))

    def test_the_local_term_pulls_at_one_side_or_at_both(self) -> None:
        model, (x, y, keys) = _model("natural").eval(), _batch()

        def slopes(**options: Any) -> Tensor:
            loss = defenses["adr"](**QUICK, **OFF | {"lc": 1.0}, **options).loss(model, x, y, keys)
            return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])

        base = defenses["adr"](**QUICK, **OFF)
        x_adv = base._adversarial(model, x, y, keys)
        for held in (True, False):
            z, z_adv = model.features(x), model.features(x_adv)
            local = ((z.detach() if held else z) - z_adv).abs().mean()
            expected = torch.autograd.grad(base.loss(model, x, y, keys) + local, list(model.parameters()))
            found = slopes() if held else slopes(lc_gradient="both")
            torch.testing.assert_close(found, torch.cat([part.flatten() for part in expected]))
        assert not torch.allclose(slopes(), slopes(lc_gradient="both"))

    def test_components_are_added(self) -> None:
        model, (x, y, keys) = _model("natural").eval(), _batch()
        plain = defenses["adr"](**QUICK, **OFF)
        x_adv = plain._adversarial(model, x, y, keys)
        sides = [(model.features(part), model(part)) for part in (x, x_adv)]
        expected = Divergence(1.0, 1.0, 1.0, 1.0)(*sides, y, (sides[0][0], y)).mean() + plain.loss(model, x, y, keys)
        torch.testing.assert_close(defenses["adr"](conf=1.0, **QUICK).loss(model, x, y, keys), expected)

    def test_a_batch_of_one_class_is_trained_on(self) -> None:
        model, (x, _, keys) = _model("natural"), _batch(8)
        value = defenses["adr"](conf=1.0, **QUICK).loss(model, x, torch.full((8,), 4), keys)
        value.backward()
        assert value.isfinite() and all(weight.grad.isfinite().all() for weight in model.parameters())

    def test_adaptive_attacks_are_told_the_weights(self) -> None:
        told = defenses["adr"](conf=1.0).trained_with()
        assert told == {"adr": {"base": "adv", "lc": 1.0, "gb": 1.0, "smt": 1.0, "conf": 1.0}}
        assert defenses["adr"](base="trades", beta=2.0).trained_with()["kl"] == {"beta": 2.0}

    @pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
    def test_a_bad_weight_is_refused_in_one_line(self, weight: float) -> None:
        with pytest.raises(UserError, match=r"^adr weight gb is \S+: give a finite number of at least 0$"):
            defenses["adr"](gb=weight)

    def test_recipes_state_the_papers_settings(self) -> None:
        mnist, cifar = recipes.load("adr_mnist"), recipes.load("adr_cifar10_cnn")
        assert [getattr(mnist.defense, name) for name in latent_losses.TERMS] == [1, 1, 1, 0]
        assert [getattr(cifar.defense, name) for name in latent_losses.TERMS] == [1, 1, 1, 1]
        assert (mnist.defense.steps, cifar.defense.steps, cifar.train.optimizer) == (20, 10, "adam")
        for name, cut in (("adr_mnist_conv2", "conv2"), ("adr_mnist_cnn_fc1", "fc1"), ("adv_mnist_cnn", "conv")):
            recipe = recipes.load(name)
            assert recipe.model.args["cut"] == cut and recipe.defense_name == "adr"
        adv = recipes.load("adv_mnist_cnn")
        assert not any(getattr(adv.defense, name) for name in latent_losses.TERMS)
        assert (adv.train.epochs, adv.train.mixed_precision, adv.defense.step_size) == (6, "on", "0.06")
