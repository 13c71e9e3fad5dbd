"""Cuts inside the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.core.registry import architectures
from bench.core.types import UserError
from bench.ops import rng

CUTS = {"conv2": 4608, "conv3": 3200, "conv": 512, "fc1": 200, "fc2": 200}


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
