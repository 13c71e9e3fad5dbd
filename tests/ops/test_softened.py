"""A softened backward pass: the model's own values, and at each ReLU the derivative of a sigmoid-gated one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.ops import losses, passes
from bench.ops.softened import softened, softens
from tests.support import subjects

SHARE = 0.3


class Written(nn.Module):
    """Two linear layers with an activation written as `activation` has it."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.first, self.second, self.activation = nn.Linear(36, 20), nn.Linear(20, 4), activation

    def forward(self, x):
        return self.second(self.activation(self.first(x.flatten(1))))


def _written(activation) -> nn.Module:
    torch.manual_seed(0)
    return subjects.frozen(Written(activation))


def _in_place(a):
    a = a * 1
    a.relu_()
    return a


RELUS = {
    "module": nn.ReLU(),
    "module in place": lambda a: nn.ReLU(inplace=True)(a * 1),
    "F.relu": F.relu,
    "F.relu in place": lambda a: F.relu(a * 1, True),
    "torch.relu": torch.relu,
    "method": lambda a: a.relu(),
    "method in place": _in_place,
    "clamp": lambda a: a.clamp(min=0),
    "clamp_min": lambda a: a.clamp_min(0),
}


def _closed_form(model: Written, x, y, low=0.0, top=None):
    """The gradient of the margin of two linear layers with a softened activation between them."""
    a = model.first(x.flatten(1))
    logits = model(x)
    best = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    upper = model.second.weight[best] - model.second.weight[y]
    b = SHARE * a.std(1, correction=0, keepdim=True)
    passed = torch.sigmoid(a / b)
    if top is not None:
        passed = passed * torch.sigmoid((top - a) / b)
    passed = low + (1 - low) * passed
    return ((upper * passed) @ model.first.weight).view_as(x), logits


def _soft(model, x, y):
    with softened(SHARE):
        _, logits, gradient = passes.input_gradient(losses.logit_margin, model, x, y)
    return logits, gradient


@pytest.mark.parametrize("form", RELUS)
def test_the_gradient_of_two_layers_is_the_closed_form(form):
    model = _written(RELUS[form])
    x, y = subjects.images(model, 9)
    logits, gradient = _soft(model, x, y)
    expected, own = _closed_form(model, x, y)
    assert torch.equal(logits, passes.outputs(model, x))
    torch.testing.assert_close(logits, own)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "low", "top"),
    [
        (nn.LeakyReLU(0.2), 0.2, None),
        (lambda a: F.leaky_relu(a * 1, 0.2, True), 0.2, None),
        (nn.PReLU(1, 0.25), 0.25, None),
        (nn.ReLU6(), 0.0, 6.0),
        (nn.Hardtanh(0.0, 1.0), 0.0, 1.0),
    ],
)
def test_other_kinks_are_softened_each(activation, low, top):
    model = _written(activation)
    x, y = subjects.images(model, 9)
    expected, _ = _closed_form(model, x, y, low, top)
    torch.testing.assert_close(_soft(model, x, y)[1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ELU(), nn.SiLU(), nn.Softplus(), nn.Hardtanh(), torch.tanh])
def test_smooth_activations_are_left_as_they_are(activation):
    model = _written(activation)
    x, y = subjects.images(model, 9)
    assert softens(model, x) == ""
    assert torch.equal(_soft(model, x, y)[1], passes.input_gradient(losses.logit_margin, model, x, y)[2])


def test_what_cannot_be_reached_is_exact_and_told():
    model = _written(nn.ReLU())
    x, y = subjects.images(model, 9)
    scripted = torch.jit.trace(model, x)
    assert softens(model, x) == "relu x 1" and softens(scripted, x) == ""
    exact = passes.input_gradient(losses.logit_margin, model, x, y)[2]
    torch.testing.assert_close(_soft(scripted, x, y)[1], exact)


def test_each_image_has_its_own_width():
    """An image alone and among images of another scale gets the same bits."""
    model = subjects.frozen(nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)))
    x, y = subjects.images(model, 9)
    together = _soft(model, torch.cat([x, x * 0.01]), torch.cat([y, y]))[1]
    for image in range(9):
        alone = _soft(model, x[image : image + 1], y[image : image + 1])[1]
        assert torch.equal(alone[0], together[image])


def test_no_share_is_no_change_and_the_mode_ends_with_the_block():
    model = _written(nn.ReLU())
    x, y = subjects.images(model, 9)
    exact = passes.input_gradient(losses.logit_margin, model, x, y)[2]
    with softened(0.0):
        assert torch.equal(passes.input_gradient(losses.logit_margin, model, x, y)[2], exact)
    assert not torch.equal(_soft(model, x, y)[1], exact)
    assert torch.equal(passes.input_gradient(losses.logit_margin, model, x, y)[2], exact)


def test_equal_pre_activations_have_the_exact_derivative():
    """There is no spread to take a width from: no division by zero."""
    model = _written(nn.ReLU())
    model.first.weight.zero_()
    model.first.bias.fill_(0.5)
    x = torch.rand(3, 1, 6, 6)
    gradient = _soft(model, x, torch.zeros(3, dtype=torch.int64))[1]
    assert gradient.isfinite().all()


def test_a_sum_after_an_activation_in_place_keeps_its_values():
    """The activation overwrites what a shortcut reads later."""

    def shortcut(a):
        a = a * 1
        b = F.relu(a, inplace=True)
        b += a
        return b

    model = _written(shortcut)
    x, y = subjects.images(model, 9)
    assert torch.equal(_soft(model, x, y)[0], passes.outputs(model, x))
