"""The order of target classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.ops import passes, targets
from tests.support import subjects

SHAPE = (1, 4, 4)


def _linear(classes: int, scale: float = 1.0) -> nn.Module:
    model = subjects.linear(SHAPE, classes)
    model[1].weight.data[-1] *= scale
    return model


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("classes", [2, 5, 12])
def test_linear_boundaries_come_by_their_distance(norm, order, classes):
    """On a linear net the linearised distance is the distance."""
    model = _linear(classes, 7.0)
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    seen = targets.nearest(model, x, y, norm, classes - 1)
    logits, weight = model(x), model[1].weight
    for image, label in enumerate(y.tolist()):
        others = [k for k in range(classes) if k != label]
        distance = {
            k: ((logits[image, label] - logits[image, k]) / (weight[k] - weight[label]).norm(order)).item()
            for k in others
        }
        assert seen[image].tolist() == sorted(others, key=distance.__getitem__)


def test_a_class_without_a_gradient_comes_last():
    model = _linear(4)
    model[1].weight.data[3] = model[1].weight.data[0]
    x = torch.rand(5, *SHAPE)
    y = torch.zeros(5, dtype=torch.int64)
    assert (targets.nearest(model, x, y, "linf", 3)[:, -1] == 3).all()


def test_of_many_classes_the_twenty_highest_are_considered_and_every_pass_counts():
    model = _linear(40)
    x = torch.rand(4, *SHAPE)
    y = model(x).argmax(1)
    with passes.counted(4) as tally:
        seen = targets.nearest(model, x, y, "linf", 25)
    assert seen.shape == (4, 20)
    assert tally.forwards.tolist() == [2] * 4 and tally.backwards.tolist() == [20] * 4
    highest = model(x).scatter(1, y[:, None], -torch.inf).topk(20, dim=1).indices
    assert torch.equal(seen.sort(1).values, highest.sort(1).values)
