"""ADR: its losses against plain references, the defense, latent cuts, attacks and the probe that draws surfaces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import architectures, attacks, defenses, probes
from bench.core.types import CLEAN, ThreatModel, UserError
from bench.evaluation.plan import plan
from bench.evaluation.probes.probe import Exhibit, Images
from bench.evaluation.probes.surface import orthogonal_signs
from bench.ops import latent_losses, losses, rng
from bench.ops.latent_losses import AdrObjective, Divergence
from defenses.defense import Trainee
from defenses.training import recipe as recipes
from tests import subjects
from tests.test_defenses import _batch, _model

CUTS = {"conv2": 4608, "conv3": 3200, "conv": 512, "fc1": 200, "fc2": 200}
OFF = {"lc": 0.0, "gb": 0.0, "smt": 0.0, "conf": 0.0}
QUICK = {"eps": "0.1", "step_size": "0.05", "steps": 3}


def drawn(count: int, width: int, purpose: str) -> Tensor:
    return rng.normal(rng.keys(0, torch.arange(count), purpose), (width,))


def predicted(logits: Tensor) -> list[list[float]]:
    rows = [[math.exp(value) for value in row] for row in logits.double().tolist()]
    return [[value / sum(row) for value in row] for row in rows]


class TestLosses:
    """Sums written out, number by number."""

    z, z_adv = drawn(6, 7, "clean"), drawn(6, 7, "adversarial")
    logits, logits_adv = drawn(6, 4, "logits"), drawn(6, 4, "other logits")
    y = torch.tensor([0, 1, 0, 2, 1, 0])

    def test_local_compactness(self) -> None:
        expected = [sum(abs(a - b) for a, b in zip(*pair, strict=True)) / 7 for pair in self._rows(self.z, self.z_adv)]
        assert latent_losses.local_compactness(self.z, self.z_adv).tolist() == pytest.approx(expected, rel=1e-5)

    def test_global_compactness(self) -> None:
        expected = []
        for i, mine in enumerate(self.z_adv.tolist()):
            total = 0.0
            for j, theirs in enumerate(self.z.tolist()):
                d = 0 if self.y[i] == self.y[j] else 1
                total += (0.99 - d) / 0.99 * sum(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / 7
            expected.append(total / 6)
        found = latent_losses.global_compactness(self.z_adv, self.y, self.z, self.y)
        assert found.tolist() == pytest.approx(expected, rel=1e-4)

    def test_smoothness_and_entropy(self) -> None:
        p, p_adv = predicted(self.logits), predicted(self.logits_adv)
        cross = [-sum(a * math.log(b) for a, b in zip(*pair, strict=True)) for pair in zip(p, p_adv, strict=True)]
        assert latent_losses.smoothness(self.logits, self.logits_adv).tolist() == pytest.approx(cross, rel=1e-5)
        own = [-sum(a * math.log(a) for a in row) for row in p_adv]
        assert latent_losses.entropy(self.logits_adv).tolist() == pytest.approx(own, rel=1e-5)
        # Up to the entropy of the clean prediction, smoothness is the KL divergence.
        apart = losses.kl_divergence(self.logits, self.logits_adv) + latent_losses.entropy(self.logits)
        torch.testing.assert_close(apart, latent_losses.smoothness(self.logits, self.logits_adv))

    @pytest.mark.parametrize("term", latent_losses.TERMS)
    def test_gradient_flows_through_the_attacked_side_alone(self, term: str) -> None:
        sides = [part.clone().requires_grad_() for part in (self.z, self.logits, self.z_adv, self.logits_adv)]
        weights = Divergence(**OFF | {term: 1.0})
        value = weights((sides[0], sides[1]), (sides[2], sides[3]), self.y, (sides[0], self.y)).sum()
        value.backward()
        assert sides[0].grad is None and sides[1].grad is None
        reached = sides[2] if term in ("lc", "gb") else sides[3]
        assert reached.grad is not None and float(reached.grad.abs().sum()) > 0

    def test_components_are_switched_by_their_weights(self) -> None:
        clean, adversarial, anchors = (self.z, self.logits), (self.z_adv, self.logits_adv), (self.z, self.y)
        parts = [Divergence(**OFF | {name: 1.0})(clean, adversarial, self.y, anchors) for name in latent_losses.TERMS]
        whole = Divergence(1.0, 2.0, 3.0, 4.0)(clean, adversarial, self.y, anchors)
        torch.testing.assert_close(whole, parts[0] + 2 * parts[1] + 3 * parts[2] + 4 * parts[3])
        assert float(Divergence(**OFF)(clean, adversarial, self.y, anchors).abs().sum()) == 0
        assert Divergence(1, 0, 2, 0).switched_on() == ["lc", "smt"] and Divergence().without("gb").gb == 0

    def test_a_batch_of_one_class_has_the_mean_distance(self) -> None:
        y = torch.full((6,), 3)
        found = latent_losses.global_compactness(self.z_adv, y, self.z, y)
        expected = (self.z_adv[:, None] - self.z[None]).abs().mean(2).mean(1)
        torch.testing.assert_close(found, expected)
        assert found.isfinite().all() and latent_losses.pair_weights(y, y).unique().tolist() == [1.0]

    @pytest.mark.parametrize("count", [0, 1])
    def test_an_empty_batch_and_a_batch_of_one(self, count: int) -> None:
        clean, adversarial = (self.z[:count], self.logits[:count]), (self.z_adv[:count], self.logits_adv[:count])
        found = Divergence(conf=1.0)(clean, adversarial, self.y[:count], (self.z[:count], self.y[:count]))
        assert found.shape == (count,) and found.isfinite().all()

    def test_equal_constant_and_extreme_inputs_are_finite(self) -> None:
        z = torch.ones(6, 7, requires_grad=True)
        for scale in (0.0, 1e4, -1e4):
            logits = (self.logits * scale).requires_grad_()
            value = Divergence(conf=1.0)((z, logits), (z, logits), self.y, (z, self.y)).sum()
            slopes = torch.autograd.grad(value, (z, logits))
            assert value.isfinite() and all(slope.isfinite().all() for slope in slopes)

    @staticmethod
    def _rows(*parts: Tensor) -> list[tuple[list[float], ...]]:
        return list(zip(*(part.tolist() for part in parts), strict=True))


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


class TestCuts:
    @pytest.mark.parametrize(("cut", "width"), CUTS.items())
    @pytest.mark.parametrize("name", ["carlini_wagner", "small_cnn"])
    def test_the_five_cuts_of_table_3(self, name: str, cut: str, width: int) -> None:
        model, whole = self._net(name, cut=cut), self._net(name)
        x = rng.uniform(rng.keys(0, torch.arange(3), "images"), (1, 28, 28))
        z = model.features(x)
        assert z.shape == (3, width * (2 if name == "small_cnn" and cut in ("conv3", "conv") else 1))
        assert torch.equal(model(x), whole(x)) and torch.equal(model.classify(z), whole(x))
        assert list(model.state_dict()) == list(whole.state_dict()) and model(x[:0]).shape == (0, 10)

    def test_a_cut_may_be_changed_after_training_and_survives_channels_last(self) -> None:
        model, whole = self._net("carlini_wagner", cut="conv3"), self._net("carlini_wagner", seed=1)
        model.load_state_dict(whole.state_dict())
        x = rng.uniform(rng.keys(0, torch.arange(3), "images"), (1, 28, 28))
        torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), whole(x))

    def test_unknown_and_impossible_cuts(self) -> None:
        with pytest.raises(UserError, match="unknown cut 'conv5': did you mean"):
            architectures["carlini_wagner"](cut="conv5")
        with pytest.raises(UserError, match="needs its features just before it"):
            architectures["carlini_wagner"](cut="conv2", head="centers")

    @staticmethod
    def _net(name: str, seed: int = 0, **args: str) -> nn.Module:
        torch.manual_seed(seed)
        return architectures[name](**args).eval()


class TestAttacks:
    @pytest.fixture(scope="class")
    def model(self) -> nn.Module:
        return subjects.frozen(subjects.Centred())

    def test_adaptive_includes_adr_where_the_stanza_says_so(self, model: nn.Module) -> None:
        threat = ThreatModel("linf", 0.1)
        assert "adr" not in [one.name for one in plan("adaptive", model, threat)]
        told = {"adr": {"base": "adv", "lc": 0.5, "gb": 0.0, "smt": 1.0, "conf": 0.0}}
        (found,) = (one.attack for one in plan("adaptive", model, threat, told) if one.name == "adr")
        assert (found.lc, found.gb, found.drop) == (0.5, 0.0, True)
        assert plan("adr", model, threat)[0].attack.gb == 1
        with pytest.raises(UserError, match="features"):
            plan("adr", subjects.linear((1, 6, 6), 4), threat)

    def test_the_sum_then_the_sum_without_each_term(self, model: nn.Module) -> None:
        x, y = subjects.images(model, 5)
        bound = attacks["adr"](conf=1.0).bind(subjects.Scene(model))
        found = [one.objective for one in bound.attempts(model, x, y)]
        assert [(one.ce, one.weights.switched_on()) for one in found] == [
            (1.0, ["lc", "gb", "smt", "conf"]),
            (0.0, ["lc", "gb", "smt", "conf"]),
            (1.0, ["gb", "smt", "conf"]),
            (1.0, ["lc", "smt", "conf"]),
            (1.0, ["lc", "gb", "conf"]),
            (1.0, ["lc", "gb", "smt"]),
        ]
        assert len(list(attacks["adr"](**OFF).attempts(model, x, y))) == 1
        with pytest.raises(ValueError, match="bind"):
            list(attacks["adr"]().attempts(model, x, y))

    def test_the_objective_is_the_training_loss_with_entropy_turned(self, model: nn.Module) -> None:
        x, y = subjects.images(model, 5)
        moved = (x + 0.05).clamp(0, 1)
        z, logits = model.features(x), model(x)
        anchors = (z, y)
        values, theirs = AdrObjective(Divergence(1, 2, 3, 4), anchors=anchors)(model, moved, y, z, logits)
        after = model.features(moved)
        expected = losses.cross_entropy(theirs, y) + latent_losses.local_compactness(z, after)
        expected = expected + 2 * latent_losses.global_compactness(after, y, *anchors)
        expected = expected + 3 * latent_losses.smoothness(logits, theirs) - 4 * latent_losses.entropy(theirs)
        torch.testing.assert_close(values, expected)

    @pytest.mark.parametrize("name", ["bim_multi_targeted", "mim_multi_targeted"])
    def test_multiple_targets_break_what_their_best_target_breaks(self, model: nn.Module, name: str) -> None:
        x, y = subjects.images(model, 40)
        ball, keys = subjects.budget("linf", 0.03, 40), subjects.keys(40)
        broken = model(attacks[name](steps=20)(model, x, y, ball, keys)).argmax(1) != y
        plain = attacks["pgd"](steps=20, random_start=False)(model, x, y, ball, keys)
        assert bool(broken.any()) and int(broken.sum()) >= int((model(plain).argmax(1) != y).sum())


class TestSurface:
    def test_signs_are_orthogonal_and_drawn_by_key(self) -> None:
        slope = drawn(5, 9, "slope")
        slope[0, :4] = 0
        slope[1] = 0
        keys = rng.keys(0, torch.arange(5), "surface")
        found = orthogonal_signs(slope, keys)
        assert (found * slope.sign()).sum(1).abs().max() == 0
        assert (found == 0).sum(1).tolist() == [1, 0, 1, 1, 1] and set(found.unique().tolist()) == {-1, 0, 1}
        assert torch.equal(orthogonal_signs(slope[2:3], keys[2:3]), found[2:3])
        assert len(found[2:].unique(dim=0)) == 3

    def test_of_a_fooled_and_an_unfooled_image(self) -> None:
        model = subjects.frozen(subjects.Centred())
        found = probes["surface"](points=5)(model, self._exhibit(model, 0.02))
        groups = found.groupby(["example", "space"])
        assert sorted(groups.groups) == [
            ("fooled", "input"),
            ("fooled", "latent"),
            ("unfooled", "input"),
            ("unfooled", "latent"),
        ]
        assert (groups.size() == 25).all() and found["along"].abs().max() == pytest.approx(0.02)
        middle = found[(found["along"] == 0) & (found["across"] == 0)].set_index("example")
        assert (middle.loc["fooled", "prediction"] != middle.loc["fooled", "label"]).all()
        assert (middle.loc["unfooled", "prediction"] == middle.loc["unfooled", "label"]).all()
        # Both spaces meet in their middle, and along the gradient's sign the loss rises.
        assert middle.groupby("example")["loss"].agg(lambda loss: loss.max() - loss.min()).max() < 1e-4
        for _, one in groups:
            line = one[one["across"] == 0].sort_values("along")["loss"].tolist()
            assert line[3] > line[2] > line[1]

    def test_kinds_that_no_image_is_of_are_left_out(self) -> None:
        model = subjects.frozen(subjects.Centred())
        found = probes["surface"](points=3)(model, self._exhibit(model, 1e-6))
        assert set(found["example"]) == {"unfooled"}
        shown = self._exhibit(model, 0.02)
        wrong = replace(shown.clean, y=(shown.clean.y + 1) % 5)
        assert probes["surface"](points=3)(model, replace(shown, clean=wrong)).empty
        with pytest.raises(UserError, match="needs the eps"):
            probes["surface"]()(model, replace(shown, record={**shown.record, "eps": None}))

    @staticmethod
    def _exhibit(model: nn.Module, eps: float) -> Exhibit:
        x, y = subjects.images(model, 60)
        clean = Images(CLEAN, "", None, x, y, torch.arange(60), torch.zeros(60, dtype=torch.bool))
        entry = {"name": "pgd", "fields": {"steps": 10, "step_size": None, "random_start": True}}
        return Exhibit(clean, (), {"norm": "linf", "eps": eps, "seed": 0, "attacks": [entry]}, 16)


def test_the_surface_of_a_stored_run(bench) -> None:
    assert bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "40", "--save-adversarial", "--out", "r").code == 0
    assert bench("probe", "r", "--probes", "surface(points=5)").code == 0
    found = pd.read_csv("r/probes/surface.csv")
    assert set(found["space"]) == {"input", "latent"} and found["loss"].notna().all()
