"""The ER-Classifier's nets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.core.registry import architectures
from bench.core.types import UserError
from defenses import er as er_module


class TestNets:
    @pytest.mark.parametrize(
        ("name", "shape", "small", "dim"),
        [
            ("er_digits", (1, 8, 8), {}, 4),
            ("er_mnist", (1, 28, 28), {"widths": (4, 8, 8, 16), "fc": (8, 8)}, 4),
            ("er_cifar10", (3, 32, 32), {"width": 0.05}, 16),
            ("er_stl10", (3, 96, 96), {"widths": (4, 4, 4, 8, 8)}, 16),
            ("er_tiny_imagenet", (3, 64, 64), {"width": 0.05}, 20),
        ],
    )
    def test_is_cut_at_its_codes(self, name: str, shape: tuple[int, ...], small: dict[str, object], dim: int) -> None:
        channels = shape[0]
        model = architectures[name](mean=[0.5] * channels, std=[0.5] * channels, **small).eval()
        x = torch.rand(2, *shape)
        z = model.features(x)
        assert z.shape == (2, dim) and torch.equal(model(x), model.classify(z))
        assert er_module.code_width(model) == dim and (z < 0).any()
        assert architectures[name](dim=2, **small).eval().features(x).shape == (2, 2)

    def test_tables_7_and_8(self) -> None:
        kinds = [type(part) for part in architectures["er_mnist"]().body]
        assert kinds.count(nn.Conv2d) == 4 and kinds.count(nn.BatchNorm2d) == 3
        vgg = architectures["er_cifar10"](width=0.05)
        assert sum(isinstance(part, nn.Conv2d) for part in vgg.body) == 16
        assert sum(isinstance(part, nn.Linear) for part in vgg.head) == 4 and isinstance(vgg.head[1], nn.Dropout)
        assert sum(isinstance(part, nn.Conv2d) for part in architectures["er_tiny_imagenet"](width=0.05).body) == 13

    def test_refuses_what_cannot_be(self) -> None:
        with pytest.raises(UserError, match="too small"):
            architectures["er_mnist"](image=8, widths=(2, 2, 2, 2))
        with pytest.raises(UserError, match="dim 1 or more"):
            architectures["er_digits"](dim=0)
