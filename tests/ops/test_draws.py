"""Means over draws: values, gradients, counts and generators."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from bench.ops import draws, losses, passes
from bench.ops.draws import Averaged
from bench.ops.global_random import seeded


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.own = torch.Generator().manual_seed(5)
        self.numbers = np.random.default_rng(5)

    def features(self, x):
        return x.flatten(1) + torch.randn(x.shape[0], 4) * 0.1

    def classify(self, z):
        shift = torch.rand(1, generator=self.own) + random.random() + np.random.rand() + self.numbers.random()
        return self.layer(z) * shift

    def forward(self, x):
        return self.classify(self.features(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Noisy().eval().requires_grad_(False)


X, Y = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])


def test_a_seed_fixes_every_generator_and_leaves_it_as_it_was(model):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy(), model.own.get_state()
    with seeded(model, 1, "a"):
        first = model(X)
    with seeded(model, 1, "a"):
        second = model(X)
    with seeded(model, 1, "b"):
        other = model(X)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1], model.own.get_state()
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert (before[2] == after[2]).all()
    assert torch.equal(before[3], after[3])


def test_values_logits_and_gradients_are_means_of_the_same_draws(model):
    form = Averaged(model, 6)
    form.begin(0, "pgd")
    with passes.counted(len(X)) as tally:
        values, logits, gradient = passes.input_gradient(losses.ce, form, X, Y)
    parts = []
    for draw in range(6):
        with seeded(model, 0, "pgd", 1, draw):
            parts.append(passes.input_gradient(losses.ce, model, X, Y))
    for ours, theirs in zip((values, logits, gradient), zip(*parts, strict=True), strict=True):
        assert torch.equal(ours, torch.stack(theirs).mean(0))
    assert (tally.forwards == 6).all()
    assert (tally.backwards == 6).all()


def test_an_objective_on_features_is_one_draw_at_a_time(model):
    form = Averaged(model, 4)
    form.begin(0)
    seen = []

    def objective(net, x, y):
        z = net.features(x)
        seen.append(z.detach())
        return z.square().sum(1), net.classify(z)

    passes.input_gradient(objective, form, X, Y)
    assert len(seen) == 4
    assert not torch.equal(seen[0], seen[1])


def test_passes_without_a_gradient_and_methods_are_means_too(model):
    form = Averaged(model, 3)
    form.begin(7)
    with passes.counted(len(X)) as tally:
        z = passes.outputs(form.features, X)
        logits = passes.outputs(form, X)
    assert z.shape == (5, 4)
    assert logits.shape == (5, 3)
    assert (tally.forwards == 6).all()
    form.begin(7)
    assert torch.equal(passes.outputs(form.features, X), z)


def test_a_library_that_calls_the_model_itself_meets_the_mean(model):
    form = Averaged(model, 5)
    form.begin(1)
    z = X.clone().requires_grad_(True)
    mean = form(z)
    (gradient,) = torch.autograd.grad(mean.sum(), z)
    form.begin(1)
    with torch.no_grad():
        assert torch.equal(form(X), mean.detach())
    assert bool((gradient != 0).any())
    assert isinstance(form, nn.Module)
    assert callable(form.classify)
    assert not hasattr(form, "class_centers")


def test_any_other_model_is_called_once_and_untouched(model):
    assert draws.count(model) == 1
    assert draws.count(lambda x: x) == 1
    with pytest.raises(StopIteration):
        once = draws.each(model, lambda: 3)
        next(once)
        next(once)


def test_caution_asks_for_distance_from_the_boundary():
    form = Averaged(nn.Flatten(), 4)
    y = torch.tensor([0])
    parts = [torch.tensor([[0.0, margin]]) for margin in (3.0, 1.0, -1.0, 1.0)]
    mean = torch.tensor([[0.0, 1.0]])
    assert torch.equal(form.decided(mean, parts, y), mean)
    with form.cautious(1.0):
        shifted = form.decided(mean, parts, y)
        assert shifted[0, 0] == torch.tensor([3.0, 1.0, -1.0, 1.0]).std()
        assert shifted.argmax(1) == 0
        assert torch.equal(form.decided(mean, parts, None), mean)
    assert torch.equal(form.decided(mean, parts, y), mean)
