"""Bilateral adversarial training: its labels and images against plain references, its attacks, its recipes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import architectures, attacks
from bench.core.types import Budget, ThreatModel, UserError
from bench.data.loading import load as load_data
from bench.evaluation.plan import plan
from bench.ops import adversarial_labels, losses, norms, passes, rng
from bench.ops.adversarial_labels import LabelAdversary
from defenses.bilateral import Bilateral, most_confusing, most_one_step
from defenses.defense import Trainee
from defenses.training import parsing
from defenses.training import recipe as recipes
from tests import subjects

EPS = 0.1
SOLUTIONS = ("main", "sup")


def drawn(count: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (count, classes) in double precision and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64) * spread
    return logits, torch.randint(classes, (count,), generator=generator)


def plain(logits: list[float], c: int, solution: str, beta: float, gamma: float, top: int) -> list[float]:
    """One label, by loops over the formulas as papers print them: budget first, then shares."""
    total = sum(math.exp(value - max(logits)) for value in logits)
    v = [-math.log(math.exp(value - max(logits)) / total + 1e-8) for value in logits]
    wrong = sorted((k for k in range(len(v)) if k != c), key=lambda k: -v[k])[: top or len(v)]
    least, largest = min(v[k] for k in wrong), max(v[k] for k in wrong)
    if solution == "main":
        whole = sum(v[k] - least + gamma for k in wrong)
        share = {k: (v[k] - least + gamma) / whole for k in wrong}
        eps_y = 1 / (1 + beta * (largest - least + gamma) / whole)
    else:
        whole = sum(v[k] for k in wrong)
        share = {k: v[k] / whole for k in wrong}
        eps_y = 1 / (1 + beta * largest / whole)
    return [1 - eps_y if k == c else eps_y * share.get(k, 0.0) for k in range(len(v))]


class TestLabels:
    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize(("classes", "beta", "top"), [(2, 9.0, 0), (10, 9.0, 0), (10, 9.0, 4), (100, 11.0, 9)])
    @pytest.mark.parametrize("spread", [0.1, 2.0, 10.0])
    def test_are_the_formulas(self, solution, classes, beta, top, spread) -> None:
        logits, y = drawn(40, classes, spread)
        found = LabelAdversary(solution, beta, 0.01, top)(logits, y)
        for row, c, mine in zip(logits.tolist(), y.tolist(), found.tolist(), strict=True):
            assert mine == pytest.approx(plain(row, c, solution, beta, 0.01, top), rel=1e-9, abs=1e-9)

    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize(("classes", "beta"), [(3, 1.0), (10, 9.0), (100, 11.0)])
    def test_invariants(self, solution, classes, beta) -> None:
        logits, y = drawn(5000, classes, 4.0, seed=1)
        found = LabelAdversary(solution, beta)(logits, y)
        truth = found.gather(1, y[:, None]).squeeze(1)
        wrong = found.scatter(1, y[:, None], 0)
        ones, eps_y = torch.ones_like(truth), 1 - truth
        torch.testing.assert_close(found.sum(1), ones)
        assert (found >= 0).all() and (found <= 1).all()
        # The equality case of eq. 3, and so the bound on eps_y.
        torch.testing.assert_close(truth, beta * wrong.amax(1))
        assert (eps_y > 1 / (1 + beta)).all() and (eps_y <= 1 / (1 + beta / (classes - 1)) + 1e-12).all()
        # The order of the shares is that of the losses; the most confusing class has the least.
        v = adversarial_labels.class_losses(logits).scatter(1, y[:, None], torch.inf)
        assert torch.equal(v.argmin(1), most_confusing(logits, y))
        shares = wrong.scatter(1, y[:, None], torch.inf)
        assert torch.equal(v.argsort(1), shares.argsort(1))

    def test_the_main_solution_gives_the_most_confusing_class_less_unless_it_is_certain(self) -> None:
        logits, y = drawn(20000, 10, 8.0, seed=2)
        certain = torch.zeros(200, 10, dtype=torch.float64)
        certain[:, 1] = torch.linspace(6, 12, 200)
        logits, y = torch.cat([logits, certain]), torch.cat([y, torch.zeros(200, dtype=torch.int64)])
        target = most_confusing(logits, y)[:, None]
        v = adversarial_labels.class_losses(logits).gather(1, target).squeeze(1)
        main, sup = (LabelAdversary(name)(logits, y).gather(1, target).squeeze(1) for name in SOLUTIONS)
        assert torch.equal(main < sup, v > 0.01) and (v < 0.01).sum() > 100

    def test_main_is_the_worse_label_for_the_model(self) -> None:
        # "A higher objective value for the maximisation": at equal eps_y, more share where the loss is larger.
        logits, y = drawn(2000, 10, 3.0, seed=3)
        v = adversarial_labels.class_losses(logits).scatter(1, y[:, None], 0)
        shares = [LabelAdversary(name).weights(logits, y) for name in SOLUTIONS]
        values = [(share / share.sum(1, keepdim=True) * v).sum(1) for share in shares]
        assert ((values[0] - values[1])[v.scatter(1, y[:, None], torch.inf).amin(1) > 0.01] >= -1e-9).all()

    @pytest.mark.parametrize("solution", SOLUTIONS)
    def test_equal_classes_give_label_smoothing(self, solution) -> None:
        y = torch.tensor([0, 3, 9])
        found = LabelAdversary(solution)(torch.full((3, 10), 7.0), y)
        expected = torch.full((3, 10), 0.5 / 9).scatter(1, y[:, None], 0.5)
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize("height", [0.0, 1e4, -1e4])
    def test_two_classes_and_saturated_logits(self, solution, height) -> None:
        logits = torch.tensor([[height, 0.0], [0.0, height]])
        found = LabelAdversary(solution)(logits, torch.zeros(2, dtype=torch.int64))
        torch.testing.assert_close(found, torch.tensor([[0.9, 0.1]] * 2))
        many = LabelAdversary(solution)(torch.eye(5) * height, torch.arange(5).flip(0))
        assert many.isfinite().all() and torch.allclose(many.sum(1), torch.ones(5))

    def test_top_leaves_the_other_classes_nothing(self) -> None:
        logits, y = drawn(50, 100, 3.0)
        found = LabelAdversary("main", 11.0, top=9)(logits, y)
        assert ((found > 0).sum(1) == 10).all()
        full = LabelAdversary("main", 11.0)(logits, y)
        assert torch.equal(LabelAdversary("main", 11.0, top=99)(logits, y), full)

    def test_one_hot_is_no_adversary_and_no_image_no_label(self) -> None:
        logits, y = drawn(6, 4, 1.0)
        assert torch.equal(LabelAdversary("one_hot")(logits, y), nn.functional.one_hot(y, 4).double())
        assert LabelAdversary()(logits[:0], y[:0]).shape == (0, 4)

    def test_carry_no_gradient(self) -> None:
        logits, y = drawn(6, 4, 1.0)
        assert not LabelAdversary()(logits.requires_grad_(), y).requires_grad

    def test_soft_cross_entropy_of_one_hot_labels_is_cross_entropy(self) -> None:
        logits, y = drawn(20, 7, 3.0)
        found = adversarial_labels.soft_cross_entropy(logits, nn.functional.one_hot(y, 7).double())
        torch.testing.assert_close(found, losses.cross_entropy(logits, y))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"solution": "mian"}, "did you mean main"),
            ({"beta": 0.5}, "give at least 1"),
            ({"beta": math.nan}, "give at least 1"),
            ({"gamma": 0.0}, "give more than 0"),
            ({"top": -1}, "give 0 for all"),
        ],
    )
    def test_bad_settings_are_one_line(self, fields, said) -> None:
        with pytest.raises(UserError, match=said) as fault:
            LabelAdversary(**fields)
        assert "\n" not in str(fault.value)

    def test_one_class_is_refused(self) -> None:
        with pytest.raises(UserError, match="has one class"):
            LabelAdversary()(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


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


class TestAttacks:
    def test_bilateral_climbs_the_training_loss(self) -> None:
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 20)
        soft = LabelAdversary()(model(x), y)
        values, _ = adversarial_labels.soft_ce(model, x, y, soft)
        _, _, gradient = passes.ascent_direction(adversarial_labels.soft_ce, model, x, y, soft)
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
        found = attacks[free](**fields)(model, x, y, Budget("l2", None), subjects.keys(40))
        largest = norms.size(found.double() - x.double(), "linf")
        eps = float(largest[largest > 0].median())
        x_adv = held(model, x, y, subjects.budget("linf", eps, 40), subjects.keys(40))
        fits = largest <= eps
        assert torch.equal(x_adv[fits], found[fits]) and torch.equal(x_adv[~fits], x[~fits])
        assert 0 < int((x_adv != x).flatten(1).any(1).sum()) < 40
