"""ADR's objectives as attacks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.core.registry import attacks
from bench.core.types import ThreatModel, UserError
from bench.evaluation.plan import plan
from bench.ops import latent_losses, losses
from bench.ops.latent_losses import AdrObjective, Divergence
from tests.support import subjects
from tests.support.adr import OFF


class TestAttacks:
    @pytest.fixture(scope="class")
    def model(self) -> nn.Module:
        return subjects.frozen(subjects.Centred())

    def test_adaptive_includes_adr_where_the_stanza_says_so(self, model: nn.Module) -> None:
        threat = ThreatModel("linf", 0.1)
        assert "adr" not in [planned.name for planned in plan("adaptive", model, threat)]
        told = {"adr": {"base": "adv", "lc": 0.5, "gb": 0.0, "smt": 1.0, "conf": 0.0}}
        (attack,) = (planned.attack for planned in plan("adaptive", model, threat, told) if planned.name == "adr")
        assert (attack.lc, attack.gb, attack.drop) == (0.5, 0.0, True)
        assert plan("adr", model, threat)[0].attack.gb == 1
        with pytest.raises(UserError, match="features"):
            plan("adr", subjects.linear((1, 6, 6), 4), threat)

    def test_the_sum_then_the_sum_without_each_term(self, model: nn.Module) -> None:
        x, y = subjects.images(model, 5)
        bound = attacks["adr"](conf=1.0).bind(subjects.Scene(model))
        objectives = [attempt.objective for attempt in bound.attempts(model, x, y)]
        assert [(climbed.ce, climbed.weights.switched_on()) for climbed in objectives] == [
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
