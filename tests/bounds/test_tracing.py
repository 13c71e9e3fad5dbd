"""Which models are chains of layers that bounds pass through, and how the others are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.bounds.network import network
from bench.core.registry import architectures
from bench.core.types import UserError
from tests.support.subjects import frozen


def _around(*layers: nn.Module, side: int = 6) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(3))
    model(torch.zeros(1, 1, side, side))
    return frozen(model)


REFUSED = {
    "GELU": nn.GELU(),
    "Sigmoid": nn.Sigmoid(),
    "Tanh": nn.Tanh(),
    "SiLU": nn.SiLU(),
    "Softmax": nn.Softmax(1),
    "LeakyReLU": nn.LeakyReLU(),
    "ReLU6": nn.ReLU6(),
    "GroupNorm": nn.GroupNorm(1, 2),
    "InstanceNorm2d": nn.InstanceNorm2d(2),
    "ConvTranspose2d": nn.ConvTranspose2d(2, 2, 3),
    "Upsample": nn.Upsample(scale_factor=2, mode="bilinear"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_layers_are_refused_by_name(name):
    model = _around(nn.Sequential(nn.ReLU(), REFUSED[name]))
    with pytest.raises(UserError, match=name) as refused:
        network(model, torch.rand(2, 1, 6, 6))
    assert "\n" not in str(refused.value)
    assert "(1.1)" in str(refused.value)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1)
        return z + self.inner(z)


class _Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class _Through(nn.Module):
    """Its values leave torch: a trace would take them for constants."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor(x.flatten(1).tolist()).relu() + 0 * x.flatten(1)


class _Batch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) - x.flatten(1).mean(0)


class _Signs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) > 0.5).float()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (_Residual(), "add.*joins two paths"),
        (_Deciding(), "decides by the values"),
        (_Batch(), "joins two paths|mixes the images"),
        (_Signs(), "gt"),
        (_Through(), "."),
    ],
    ids=["residual", "deciding", "batch", "signs", "through"],
)
def test_what_is_no_chain_is_refused(model, why):
    with pytest.raises(UserError, match=why):
        network(frozen(model), torch.rand(3, 1, 2, 2))


class _Written(nn.Module):
    """Every form in which what is supported may be written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 3, 3, stride=2, padding=1, dilation=1, bias=False), nn.Linear(12, 5)
        self.norm = nn.BatchNorm1d(5)
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(2.0 * x - 1, (1, 1, 1, 1))
        x = F.relu(self.conv(x), inplace=True)
        x = F.adaptive_avg_pool2d(x, 2).permute(0, 2, 3, 1).contiguous()
        x = self.norm(self.fc(x.view(x.size(0), -1))).relu()
        return -(x @ torch.ones(5, 4)).squeeze(1) / 3


def test_a_chain_answers_as_its_model():
    torch.manual_seed(0)
    for model in (frozen(_Written()), _around(nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.AvgPool2d(2, 1, 1), side=7)):
        x = torch.rand(6, 1, 7, 7)
        expected = model(x)
        assert torch.allclose(network(model, x).logits(x).float(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image", "args"),
    [
        ("mlp", (1, 8, 8), {"image": 8}),
        ("digits_cnn", (1, 8, 8), {}),
        ("digits_cnn", (1, 8, 8), {"cut": "conv1"}),
        ("digits_cnn", (1, 8, 8), {"cut": "fc1", "fc": (16, 8)}),
        ("digits_cnn", (1, 8, 8), {"head": "centers", "dim": 16}),
        ("small_cnn", (1, 28, 28), {"mean": [0.1], "std": [0.3]}),
        ("lenet", (1, 28, 28), {}),
        ("cnn_a", (3, 32, 32), {}),
        ("vgg11", (3, 32, 32), {}),
    ],
)
def test_sequential_architectures_of_this_repository_are_chains(name, image, args):
    if name not in architectures:
        pytest.skip(f"no architecture {name}")
    torch.manual_seed(0)
    model, x = frozen(architectures[name](**args)), torch.rand(4, *image)
    assert torch.allclose(network(model, x).logits(x).float(), model(x), atol=1e-4)


def test_residual_nets_are_refused_by_name():
    model = frozen(architectures["resnet18"]())
    with pytest.raises(UserError, match=r"add of .* joins two paths"):
        network(model, torch.rand(2, 3, 32, 32))


def test_the_model_is_left_as_it_was():
    model = _around(nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network(model, torch.rand(2, 1, 6, 6))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
