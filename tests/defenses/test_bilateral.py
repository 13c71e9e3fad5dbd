"""Bilateral adversarial training: its images, its updates, its recipes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import architectures
from bench.core.types import ThreatModel, UserError
from bench.data.loading import load as load_data
from bench.evaluation.plan import plan
from bench.ops import rng
from bench.ops.adversarial_labels import LabelAdversary
from defenses.bilateral import Bilateral, most_confusing, most_one_step
from defenses.defense import Trainee
from defenses.training import parsing
from defenses.training import recipe as recipes
from tests.support import subjects

EPS = 0.1


def drawn(count: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (count, classes) in double precision and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64) * spread
    return logits, torch.randint(classes, (count,), generator=generator)


class TestTargets:
    def test_the_most_confusing_class_is_the_best_wrong_one(self) -> None:
        logits, y = drawn(200, 6, 2.0)
        slow = [max((k for k in range(6) if k != c), key=row.__getitem__) for row, c in zip(logits, y, strict=True)]
        assert most_confusing(logits, y).tolist() == slow

    def test_mosa_is_the_nearest_of_those_behind(self) -> None:
        logits, y = drawn(200, 6, 2.0)
        weight = torch.randn(6, 8, dtype=torch.float64)
        found = most_one_step(logits, y, weight)
        for row, c, target in zip(logits, y.tolist(), found.tolist(), strict=True):
            reach = {k: float((row[c] - row[k]) / (weight[c] - weight[k]).norm()) for k in range(6) if row[k] < row[c]}
            best = min(reach, key=reach.__getitem__) if reach else max(set(range(6)) - {c}, key=row.__getitem__)
            assert target == best and target != c

    def test_equal_logits_and_equal_weights_fall_back(self) -> None:
        y = torch.tensor([0, 1])
        assert (most_one_step(torch.zeros(2, 3), y, torch.randn(3, 4)) != y).all()
        assert (most_one_step(torch.eye(3)[:2], y, torch.ones(3, 4)) != y).all()

    def test_random_targets_are_wrong_and_by_key(self) -> None:
        logits, y = drawn(900, 4, 1.0)
        keys = rng.keys(0, torch.arange(900), "targets")
        defense = Bilateral(target="random")
        found = defense.targets(None, logits, y, keys)
        assert (found != y).all() and torch.equal(defense.targets(None, logits[5:9], y[5:9], keys[5:9]), found[5:9])
        assert (((found - y) % 4).bincount()[1:] > 250).all()

    def test_mix_aims_as_mosa_at_what_is_right(self) -> None:
        model, (x, y, keys) = net().eval(), batch()
        logits = model(x)
        aims = {name: Bilateral(target=name).targets(model, logits, y, keys) for name in ("mix", "mosa")}
        right = logits.argmax(1) == y
        assert torch.equal(aims["mix"], torch.where(right, aims["mosa"], most_confusing(logits, y)))

    def test_mosa_needs_a_linear_last_layer(self) -> None:
        model, (x, y, keys) = net(head="nearest", dim=16), batch()
        with pytest.raises(UserError, match=r"needs the weights of a linear last layer: set model\.args\.head"):
            Bilateral(target="mosa", eps="0.1").loss(model, x, y, keys)


def net(**args: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = architectures["digits_cnn"](widths=(4, 8), fc=(16,), **args)
    return model


def batch(count: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    data = load_data("digits", "train").select(slice(count))
    return data.images, data.labels, rng.keys(0, data.indices, "test")


VARIANTS = {
    "R-MC-LA": {},
    "R-MC-LA, sup": {"labels": "sup"},
    "R-MC": {"labels": "one_hot"},
    "R-MC-LA9": {"top": 3},
    "R-RAND-LA": {"target": "random"},
    "R-MOSA-LA": {"target": "mosa"},
    "R-MIX-LA": {"target": "mix"},
    "MC-LA": {"random_start": False},
    "more steps": {"steps": 4, "step_size": "0.04"},
}


class TestTraining:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_the_loss_is_a_finite_scalar_that_falls(self, name) -> None:
        defense, model, (x, y, keys) = Bilateral(eps=str(EPS), **VARIANTS[name]), net(), batch()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        trainee = Trainee(model, nn.ModuleDict(), {"model": optimizer})
        before = torch.get_rng_state()
        values = [float(defense.step(trainee, x, y, keys)) for _ in range(12)]
        assert all(map(math.isfinite, values)) and min(values[-3:]) < values[0]
        assert all(weight.grad is not None for weight in model.parameters()) and model.training
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize("name", VARIANTS)
    def test_images_keep_to_the_ball_exactly(self, name) -> None:
        defense, model, (x, y, keys) = Bilateral(eps=str(EPS), **VARIANTS[name]), net().eval(), batch()
        x_adv = defense.adversarial(model, x, y, keys, most_confusing(model(x), y))
        assert float((x_adv.double() - x.double()).abs().max()) <= EPS
        assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1

    def test_the_image_is_one_step_down_from_a_start_that_is_clipped_after_it(self) -> None:
        defense, model, (x, y, keys) = Bilateral(eps=str(EPS)), net().eval(), batch(5)
        target = most_confusing(model(x), y)
        found = defense.adversarial(model, x, y, keys, target)
        for i in range(5):
            start = (x[i : i + 1] + EPS * (2 * rng.uniform(keys[i : i + 1], x.shape[1:]) - 1)).requires_grad_()
            nn.functional.cross_entropy(model(start), target[i : i + 1]).backward()
            moved = start.detach() - EPS * start.grad.sign()
            expected = torch.max(torch.min(moved, x[i : i + 1] + EPS), x[i : i + 1] - EPS).clamp(0, 1)
            assert float((found[i] - expected[0]).abs().max()) <= 1e-6

    def test_the_loss_is_the_soft_cross_entropy_at_those_images(self) -> None:
        defense, model, (x, y, keys) = Bilateral(eps=str(EPS)), net().eval(), batch()
        clean = model(x).detach()
        x_adv = defense.adversarial(model, x, y, keys, most_confusing(clean, y))
        soft = LabelAdversary()(clean, y)
        expected = nn.functional.cross_entropy(model(x_adv), soft)
        torch.testing.assert_close(defense.loss(model, x, y, keys), expected, rtol=1e-4, atol=1e-5)

    def test_a_batch_of_a_single_class_and_one_image_alone(self) -> None:
        defense, model, (x, y, keys) = Bilateral(eps=str(EPS)), net().eval(), batch(8)
        alone = [defense.loss(model, x[i : i + 1], y[i : i + 1], keys[i : i + 1]) for i in range(8)]
        assert torch.allclose(torch.stack(alone).mean(), defense.loss(model, x, y, keys), atol=1e-5)
        assert defense.loss(model, x, torch.full_like(y, 3), keys).isfinite()

    def test_the_step_is_eps_unless_given_and_other_norms_are_refused(self) -> None:
        assert Bilateral(eps="0.3").step_size == "0.3" and Bilateral(eps="0.3", step_size="0.1").step_size == "0.1"
        with pytest.raises(UserError, match="set norm to linf"):
            Bilateral(norm="l2")
        with pytest.raises(UserError, match="give at least 1"):
            Bilateral(beta=0.0)

    def test_attacks_are_told_what_the_labels_were(self) -> None:
        told = Bilateral(labels="sup", beta=11.0, top=9).trained_with()
        assert told["bilateral"]["labels"] == "sup" and told["bilateral"]["eps"] == "8/255"
        model, threat = subjects.frozen(subjects.Centred()), ThreatModel("linf", 0.1)
        planned = {one.name: one for one in plan("adaptive", model, threat, told)}
        assert planned["bilateral"].fields["top"] == 9 and planned["bilateral"].fields["labels"] == "sup"
        assert "multi_margin" in planned and planned["multi_margin"].is_adaptive
        assert not {"bilateral", "multi_margin"} & {one.name for one in plan("adaptive", model, threat)}


class TestRecipes:
    @pytest.mark.parametrize("name", [name for name in parsing.names() if name.startswith("bilateral")])
    def test_say_what_they_train(self, name) -> None:
        recipe = recipes.load(name)
        defense = recipe.defense
        assert isinstance(defense, Bilateral) and defense.steps == 1 and defense.step_size == defense.eps
        assert (defense.labels == "sup") == ("sup" in name.split("_"))
        assert ("wrn" in name) == (recipe.model.arch == "wide_resnet") and recipe.paper.source
        if "wrn" in name and not name.endswith("_short"):
            milestones = (100.0, 150.0) if {"plus", "rand", "mosa"} & set(name.split("_")) else (60.0, 90.0)
            assert recipe.train.milestones == milestones and recipe.train.epochs == 200 and recipe.paper.expect
        if name.endswith("pc"):
            per_class, limit = int(name.rpartition("_")[2][:-2]), recipe.data.limit
            assert limit is not None and (limit - recipe.data.held_out) // 10 == per_class

    def test_cifar100_labels_have_the_papers_beta(self) -> None:
        recipe = recipes.load("bilateral_cifar100_wrn_top9_plus")
        assert isinstance(recipe.defense, Bilateral) and (recipe.defense.beta, recipe.defense.top) == (11.0, 9)
        assert recipe.model.args["classes"] == 100
