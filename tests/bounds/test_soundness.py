"""Bounds against what is known: closed forms, every corner of a box, and points of the region."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from bench.bounds.margins import METHODS, margin
from bench.bounds.network import network
from bench.bounds.region import Region
from tests.support import oracles
from tests.support.subjects import frozen


def _images(count: int, *shape: int) -> Tensor:
    """Images some of whose pixels are exactly 0 or 1."""
    x = oracles.images(count, shape, -0.3, 1.3)
    return x.clamp(0, 1)


def _conv_net() -> nn.Module:
    torch.manual_seed(oracles.shifted(3))
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 2.0)
    nn.init.uniform_(norm.weight, -1, 1)
    layers = [nn.Conv2d(2, 4, 3, padding=1, stride=1), norm, nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 2, groups=2)]
    return frozen(
        nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4))
    )


def _pooled_net() -> nn.Module:
    torch.manual_seed(oracles.shifted(4))
    stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1))
    return frozen(nn.Sequential(stem, nn.MaxPool2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)))


class _Functional(nn.Module):
    """A forward of its own, which torch.fx shows to be a chain."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(oracles.shifted(5))
        self.first, self.last = nn.Linear(72, 20), nn.Linear(20, 4, bias=False)
        self.register_buffer("mean", torch.tensor([0.3, 0.6]).view(1, 2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        z = 1 - (x - self.mean) / torch.tensor([0.2, 0.4]).view(1, 2, 1, 1)
        z = torch.relu_(self.first(z.reshape(x.shape[0], -1) * 0.5))
        return self.last(z)


NETS = {"conv": _conv_net, "pooled": _pooled_net, "functional": lambda: frozen(_Functional())}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NETS)
def test_no_point_of_the_region_has_a_smaller_margin_than_any_method_says(name, norm):
    model, x = NETS[name](), _images(3, 2, 6, 6)
    net = network(model, x)
    draw = torch.Generator().manual_seed(0)
    for image, eps in itertools.product(x, (0.0, 0.02, 0.1, 0.6)):
        region = Region.around(image, norm, eps)
        label = int(model(image[None]).argmax())
        delta = torch.randn(400, *image.shape, generator=draw, dtype=torch.float64)
        delta = delta.sign() if norm == "linf" else delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        points = (image + eps * delta * torch.rand(400, 1, 1, 1, generator=draw).sqrt()).clamp(0, 1)
        logits = net.logits(torch.cat([points, image[None].double()]))
        others = logits.clone()
        others[:, label] = -math.inf
        least = float((logits[:, label] - others.amax(1)).min())
        values = [margin(net, region, label, (method,)).value for method in METHODS]
        assert all(value <= least for value in values)
        assert values[0] <= min(values[1:])


@pytest.mark.parametrize("name", NETS)
def test_a_point_has_its_own_margin(name):
    model, x = NETS[name](), _images(3, 2, 6, 6)
    net = network(model, x)
    for image in x:
        logits = net.logits(image[None])[0]
        label = int(logits.argmax())
        others = torch.cat([logits[:label], logits[label + 1 :]])
        made = margin(net, Region.around(image, "linf", 0.0), label)
        assert made.value == pytest.approx(float(logits[label] - others.max()), abs=1e-8)
        assert made.value <= float(logits[label] - others.max())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_nets_have_their_closed_form_where_the_box_is_far(norm):
    model = frozen(oracles.Linear(5, (1, 4, 4), seed=1))
    x, eps = oracles.images(4, (1, 4, 4), 0.4, 0.6), 0.2
    net = network(model, x)
    logits, _ = model.apart(x, norm)
    y = logits.argmax(1)
    slopes = model.weight.double()[None] - model.weight.double()[y][:, None]
    dual = slopes.abs().sum(2) if norm == "linf" else slopes.norm(dim=2)
    exact = logits.gather(1, y[:, None]) - logits - eps * dual
    for image, label, row in zip(x, y.tolist(), exact, strict=True):
        wanted = min(float(value) for k, value in enumerate(row) if k != label)
        for method in METHODS:
            assert margin(net, Region.around(image, norm, eps), label, (method,)).value == pytest.approx(
                wanted, abs=1e-9
            )


def test_linear_nets_have_their_closed_form_in_the_box_too():
    model = frozen(oracles.Linear(5, (1, 4, 4), seed=1))
    x, eps = _images(4, 1, 4, 4), 0.3
    net, low, high = network(model, x), (x - 0.3).clamp(0, 1).double(), (x + 0.3).clamp(0, 1).double()
    y = model(x).argmax(1)
    for place, label in enumerate(y.tolist()):
        slopes = (model.weight[label].double() - model.weight.double()).view(5, 1, 4, 4)
        shift = model.bias[label].double() - model.bias.double()
        least = torch.minimum(slopes * low[place], slopes * high[place]).flatten(1).sum(1) + shift
        wanted = min(float(value) for k, value in enumerate(least) if k != label)
        assert margin(net, Region.around(x[place], "linf", eps), label).value == pytest.approx(wanted, abs=1e-6)


def test_the_box_is_used_in_l2():
    """A pixel at 1 cannot rise: half of the ball is out of reach, and the exact least value is known."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[1].weight.data = weight
    x = torch.tensor([[[[1.0, 0.5]]]])
    net = network(frozen(model), x)
    made = margin(net, Region.around(x[0], "l2", 0.4), 0)
    assert made.value == pytest.approx(-(1.5 + 0.4), abs=1e-9)


def test_one_rectified_layer_is_no_lower_than_its_corners_say():
    """In a box the least of a convex margin is at a corner where the outer weights make the margin concave."""
    torch.manual_seed(oracles.shifted(6))
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    model[3].weight.data[0] = -model[3].weight.data[0].abs()
    model[3].weight.data[1] = model[3].weight.data[1].abs()
    x = oracles.images(1, (1, 2, 3), 0.3, 0.7)
    net, eps = network(frozen(model), x), 0.1
    corners = torch.tensor(list(itertools.product((-eps, eps), repeat=6)), dtype=torch.float64).view(-1, 1, 2, 3)
    logits = net.logits(x[0].double() + corners)
    exact = float((logits[:, 0] - logits[:, 1]).min())
    made = {method: margin(net, Region.around(x[0], "linf", eps), 0, (method,)).value for method in METHODS}
    assert made["crown"] <= exact + 1e-12
    assert made["crown"] >= exact - 0.25 * (float(logits.max() - logits.min()))
    # A rectifier that is on or off everywhere is exact.
    tight = margin(net, Region.around(x[0], "linf", 1e-4), 0, ("crown",)).value
    near = net.logits(x[0].double() + corners * 1e-3)
    assert tight == pytest.approx(float((near[:, 0] - near[:, 1]).min()), abs=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_fail(bad):
    model = _conv_net()
    net = network(model, _images(2, 2, 6, 6))
    model[8].weight.data[3, 5] = bad
    broken = network(model, _images(2, 2, 6, 6))
    image = _images(1, 2, 6, 6)[0]
    for method in METHODS:
        assert not margin(net, Region.around(image, "linf", 0.1), 0, (method,)).failed
        assert margin(broken, Region.around(image, "linf", 0.1), 0, (method,)).failed


def test_a_huge_net_that_overflows_fails():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), *[nn.Linear(4, 4) for _ in range(10)])
    for layer in model[3:]:
        layer.weight.data.fill_(3e38)
    net = network(frozen(model), _images(2, 1, 2, 2))
    assert margin(net, Region.around(_images(1, 1, 2, 2)[0], "linf", 0.1), 0).failed
