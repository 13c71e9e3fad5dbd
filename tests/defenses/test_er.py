"""ER-Classifier: critic and priors, the updates of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.core.registry import architectures, defenses
from bench.core.types import UserError
from bench.data.loading import load as load_data
from bench.ops import losses, rng
from defenses import critic
from defenses import er as er_module
from defenses.defense import Trainee
from defenses.training import loop as training
from defenses.training import optimizers, setup
from defenses.training import recipe as recipes

TINY = (
    "model.args={widths=[4,8],fc=[16]}",
    "data.limit=160",
    "data.held_out=32",
    "train.epochs=3",
    "train.batch_size=32",
    "train.warmup=0",
    "evaluation.every=2",
    "evaluation.steps=2",
    "defense.steps=2",
)


def trainee(defense: er_module.ER, **rest: object) -> Trainee:
    torch.manual_seed(0)
    model = architectures["er_digits"](widths=(4, 8), fc=(16,), **rest)
    make = optimizers.optimizer_maker(recipes.TrainPart(1, optimizer="adam", lr=0.01))
    modules = defense.modules(model)
    return Trainee(model.train(), modules, defense.optimizers(model, modules, make))


def er(**fields: object) -> er_module.ER:
    return defenses["er"](**{"eps": "0.1", "step_size": "0.05", "steps": 2, "width": 16, "clip": 0.1} | fields)


def batch(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    data = load_data("digits", "train").select(slice(count))
    return data.images, data.labels, rng.keys(0, data.indices, "test")


class TestCritic:
    @pytest.mark.parametrize("prior", critic.PRIORS)
    def test_priors_have_the_quantiles_they_should(self, prior: str) -> None:
        found = critic.draws(prior, rng.keys(0, torch.arange(20000), "prior"), 2)
        assert found.isfinite().all() and found.shape == (20000, 2)
        expected = {"gaussian": (-0.6745, 0, 0.6745), "uniform": (-1.5, 0, 1.5), "cauchy": (-1, 0, 1)}[prior]
        assert found.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(expected, abs=0.03)
        assert torch.equal(critic.draws(prior, rng.keys(0, torch.arange(5), "prior"), 2), found[:5])

    def test_is_log_sigmoid_of_five_layers_and_clips(self) -> None:
        net = critic.Critic(4)
        assert [part.out_features for part in net.layers if isinstance(part, nn.Linear)] == [512] * 4 + [1]
        z = torch.randn(6, 4)
        assert torch.allclose(net(z), net.layers(z).sigmoid().log().squeeze(1)) and (net(z) < 0).all()
        net.clip(0.01)
        assert max(float(weight.detach().abs().max()) for weight in net.parameters()) <= 0.01


class TestTraining:
    def test_e_cla_is_cross_entropy_with_two_optimisers(self) -> None:
        defense = er(weight=0.0, minmax=False, classifier_rate=1.0)
        mine, (x, y, keys) = trainee(defense), batch()
        assert set(mine.optimizers) == {"encoder", "classifier"} and not len(mine.modules)
        other = trainee(defense)
        plain = torch.optim.Adam(other.model.parameters(), 0.01)
        for _ in range(3):
            defense.step(mine, x, y, keys)
            plain.zero_grad()
            losses.cross_entropy(other.model(x), y).mean().backward()
            plain.step()
        pairs = zip(mine.model.parameters(), other.model.parameters(), strict=True)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)

    @pytest.mark.parametrize("quirks", [False, True])
    def test_a_batch_is_what_the_paper_s_code_does_step_by_step(self, quirks: bool) -> None:
        """Against a plain transcription of the order in the defense's docstring, with autograd's own bookkeeping."""
        defense = er(weight=0.5, minmax=True, reference_quirks=quirks, classifier_rate=0.5)
        mine, slow, (x, y, keys) = trainee(defense), trainee(defense), batch()
        mine.epoch = slow.epoch = 1
        for _ in range(2):
            defense.step(mine, x, y, keys)
            plain_step(defense, slow, x, y, keys, quirks)
        for a, b in zip(
            [*mine.model.parameters(), *mine.modules.parameters()],
            [*slow.model.parameters(), *slow.modules.parameters()],
            strict=True,
        ):
            assert torch.allclose(a, b, atol=1e-6)
        assert mine.model.training is not quirks

    def test_the_codes_move_toward_the_prior(self) -> None:
        x, y, keys = batch(256)
        spreads = {}
        for weight in (0.0, 5.0):
            defense = er(weight=weight, minmax=False, width=64)
            mine = trainee(defense)
            with torch.no_grad():
                mine.model.embed.bias += 6
            for turn in range(60):
                defense.step(mine, x, y, rng.fold(keys, turn))
            mine.model.eval()
            spreads[weight] = float(mine.model.features(x).mean(0).detach().abs().mean())
        assert spreads[5.0] < 0.7 * spreads[0.0]

    def test_min_max_waits_for_its_delay_and_attacks_the_prediction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        climb = er_module.ER.climb

        def spy(self, model, objective, ball, labels, start):
            seen.append(labels)
            return climb(self, model, objective, ball, labels, start)

        monkeypatch.setattr(er_module.ER, "climb", spy)
        defense, (x, y, keys) = er(delay=1), batch()
        mine = trainee(defense)
        defense.step(mine, x, y, keys)
        assert not seen
        mine.epoch = 1
        mine.model.eval()
        predicted = mine.model(x).argmax(1)
        mine.model.train()
        defense.step(mine, x, y, keys)
        assert torch.equal(seen[0], predicted)
        replace(defense, own_labels=False).step(mine, x, y, keys)
        assert torch.equal(seen[1], y)

    def test_resumed_after_a_kill_gives_the_same_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recipe = recipes.load("er_digits", TINY)
        training.train(recipe, tmp_path / "whole")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            write, calls = training._write_log, []

            def killed(*args):
                calls.append(1)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                write(*args)

            patch.setattr(training, "_write_log", killed)
            training.train(recipe, tmp_path / "parts")
        training.train(recipe, tmp_path / "parts", resume=True)
        weights = [(tmp_path / part / "weights.safetensors").read_bytes() for part in ("whole", "parts")]
        assert weights[0] == weights[1]
        stanza = (tmp_path / "whole" / "stanza.toml").read_text()
        assert 'trained_with = { er = { weight = 0.05, prior = "gaussian", minmax = true } }' in stanza

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ("defense.prior=gausian", "did you mean gaussian"),
            ("defense.clip=0", "clip is 0.0: give a number above 0"),
            ("defense.weight=-1", r"weight is -1\.0: give a number of at least 0"),
        ],
    )
    def test_bad_settings_are_one_line(self, setting: str, said: str) -> None:
        with pytest.raises(UserError, match=said) as fault:
            recipes.load("er_digits", (setting,))
        assert "\n" not in str(fault.value)

    def test_another_net_is_refused(self) -> None:
        recipe = recipes.load("er_digits", ("model.arch=digits_cnn", "model.args={head='centers'}"))
        data, _ = setup.images(recipe.data, torch.device("cpu"))
        with pytest.raises(UserError, match="starts with a linear layer"):
            setup.trainee_of(recipe, data)

    def test_threats(self) -> None:
        assert er(minmax=False).threat() is None and er().threat() is not None
        short = recipes.load("er_mnist_short")
        assert (short.train.epochs, short.train.mixed_precision, short.defense.minmax) == (6, "on", True)


def plain_step(
    defense: er_module.ER, slow: Trainee, x: torch.Tensor, y: torch.Tensor, keys: torch.Tensor, quirks: bool
) -> None:
    model, judge, steps = slow.model, slow.modules["critic"], slow.optimizers

    def clear(always: bool = False) -> None:
        if always or not quirks:
            model.zero_grad()
            judge.zero_grad()

    if quirks:
        model.eval()
    inputs = [x, defense._adversarial(model, x, y, keys)]
    clear(always=True)
    for place, part in enumerate(inputs):
        clear()
        codes = model.features(part).detach()
        prior = critic.draws("gaussian", rng.fold(keys, place + 1), 4)
        (judge(prior).mean() - judge(codes).mean()).backward()
        steps["critic"].step()
        judge.clip(defense.clip)
    kept = [weight.grad for weight in judge.parameters()]
    clear()
    (sum(losses.cross_entropy(model(part), y).mean() for part in inputs) / 2).backward()
    steps["classifier"].step()
    steps["encoder"].step()
    for part in inputs:
        clear()
        (defense.weight * judge(model.features(part)).mean()).backward()
        steps["encoder"].step()
    for weight, gradient in zip(judge.parameters(), kept, strict=True):
        weight.grad = gradient
