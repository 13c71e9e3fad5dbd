"""Stand-ins: values to the bit, and the slope of the line that a step follows."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.ops.stand_ins.custom_gradients import Unhooked
from bench.ops.stand_ins.rules import StandIns
from tests.support import defended


def _gradient(function, x, weight):
    """Values of `function` at x, and the gradient of their product with a weight, with stand-ins."""
    z = x.clone().requires_grad_(True)
    with Unhooked(nn.Module())(), StandIns():
        values = function(z * 1)
    return values.detach(), torch.autograd.grad((values * weight).sum(), z)[0]


class Before(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class TestImages:
    """Each defense changes images but little: its stand-in must have the gradient of leaving them as they are."""

    @pytest.mark.parametrize("name", defended.BLUNTED)
    def test_values_keep_their_bits_and_the_gradient_is_nearly_that_of_the_identity(self, name):
        torch.manual_seed(3)
        x, weight = torch.rand(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
        model = Before(defended.BLUNTED[name])
        plain = model(x)
        z, unhooked = x.clone().requires_grad_(True), Unhooked(model)

        def values():
            with unhooked(), StandIns():
                return model(z * 1)

        unhooked.find_spoilt(lambda: values() * weight, x.shape[1:])
        made = values()
        (gradient,) = torch.autograd.grad((made * weight).sum(), z)
        assert torch.equal(made, plain)
        cosine = F.cosine_similarity(gradient.flatten(1), weight.flatten(1))
        assert cosine.min() > (0.85 if name == "nearest" else 0.99)
        assert 0.4 < (gradient.norm() / weight.norm()) < 3.5


class TestSingleOperations:
    x = torch.tensor([[-1.3, -0.2, 0.4, 2.6]])
    weight = torch.tensor([[1.0, 2.0, -3.0, 0.5]])

    @pytest.mark.parametrize(
        "function",
        [
            torch.round,
            torch.floor,
            torch.ceil,
            torch.trunc,
            torch.sign,
            lambda x: torch.heaviside(x, torch.ones(())),
            lambda x: x.clamp(0, 1),
            lambda x: F.hardtanh(x, -1.0, 1.0),
            lambda x: x.int().float(),
            lambda x: x.long().to(torch.float32),
            lambda x: (x > 0.1).float(),
            lambda x: 1 - (x <= 0.1).float(),
            lambda x: (~(x < 0.1)).float(),
            lambda x: torch.where(x > 0.1, 1.0, 0.0),
            lambda x: torch.stack([v.floor() for v in x.unbind(1)], 1),
        ],
    )
    def test_steps_have_slope_one(self, function):
        values, gradient = _gradient(function, self.x, self.weight)
        assert torch.equal(values, function(self.x).float())
        assert torch.equal(gradient, self.weight)

    def test_one_bound_is_a_rectifier_and_keeps_its_gradient(self):
        _, gradient = _gradient(lambda x: x.clamp(min=0), self.x, self.weight)
        assert torch.equal(gradient, self.weight * (self.x > 0))

    @pytest.mark.parametrize(
        "function",
        [
            lambda z: F.one_hot(z.argmax(1), 4).float(),
            lambda z: torch.eye(4)[z.argmax(1)],
            lambda z: torch.zeros_like(z).scatter_(1, z.argmax(1, keepdim=True), 1.0),
            lambda z: torch.zeros_like(z).scatter(1, z.max(1).indices.unsqueeze(1), 1.0),
            lambda z: (z == z.amax(1, keepdim=True)).float(),
        ],
    )
    def test_the_one_hot_vector_of_the_largest_follows_the_scores(self, function):
        values, gradient = _gradient(function, self.x, self.weight)
        assert torch.equal(values, torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
        # Up to what raises all scores alike.
        centred = gradient - gradient.mean()
        assert F.cosine_similarity(centred, self.weight - self.weight.mean()).item() > 0.99 or torch.allclose(
            gradient[0, :3], self.weight[0, :3]
        )

    def test_a_plain_network_has_its_own_gradient(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.GELU())
        net.eval()
        x = torch.rand(2, 1, 8, 8)
        z = x.clone().requires_grad_(True)
        (own,) = torch.autograd.grad(net(z).square().sum(), z)
        with Unhooked(net)(), StandIns():
            values = net(z * 1)
        assert torch.equal(values, net(x))
        assert torch.equal(torch.autograd.grad(values.square().sum(), z)[0], own)


def test_a_custom_activation_has_the_gradient_of_its_forward_pass():
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(x)

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 0

    x = torch.randn(2, 3)
    _, gradient = _gradient(Swish.apply, x, torch.ones(2, 3))
    z = x.clone().requires_grad_(True)
    assert torch.allclose(gradient, torch.autograd.grad(F.silu(z).sum(), z)[0])


def test_everything_is_as_before_outside():
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    before = torch._C._InferenceMode
    with pytest.raises(ZeroDivisionError), Unhooked(nn.Module())(), StandIns():
        raise ZeroDivisionError
    assert torch._C._InferenceMode is before
    (gradient,) = torch.autograd.grad(defended.Reversed.apply(x).sum(), x)
    assert torch.equal(gradient, -torch.ones_like(x))
    with torch.no_grad():
        assert not (x * 2).requires_grad
    assert x.round().grad_fn is not None
    assert torch.autograd.grad(x.round().sum(), x)[0].abs().max() == 0


def test_a_modules_own_backward_hooks_are_off_only_inside():
    layer = nn.Linear(3, 3)
    layer.register_full_backward_hook(lambda module, inner, outer: (-inner[0],))
    x = torch.rand(2, 3, requires_grad=True)
    with Unhooked(layer)(), StandIns():
        values = layer(x * 1)
    right = torch.ones(2, 3) @ layer.weight
    assert torch.allclose(torch.autograd.grad(values.sum(), x)[0], right)
    assert torch.allclose(torch.autograd.grad(layer(x).sum(), x)[0], -right)
