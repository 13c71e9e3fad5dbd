"""Weights lie otherwise while a model is attacked, and as they were afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.core.registry import architectures
from bench.models import memory_format
from tests.support import subjects


def _lying(model: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    return [(weight.data_ptr(), weight.stride()) for weight in model.parameters()]


class _Viewing(nn.Module):
    """Depends on the usual layout, as many a module does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Linear(8 * 16, 4)

    def forward(self, x):
        z = self.pool(self.conv(x))
        return self.head(z.view(len(z), -1))


def test_a_model_that_pools_lies_otherwise_inside_the_block_and_as_before_after_it():
    model = subjects.frozen(architectures["small_cnn"]())
    x = torch.rand(16, 1, 28, 28)
    before, logits = _lying(model), model(x)
    with pytest.raises(KeyError), memory_format.suited(model, x):
        assert _lying(model) != before
        assert torch.allclose(model(x), logits, atol=1e-5)
        raise KeyError
    assert _lying(model) == before and torch.equal(model(x), logits)


@pytest.mark.parametrize("model", [_Viewing(), architectures["cnn_a"]()], ids=["views", "does not pool"])
def test_others_are_left_alone(model):
    x = torch.rand(16, 3, 8, 8) if isinstance(model, _Viewing) else torch.rand(16, 3, 32, 32)
    before = _lying(subjects.frozen(model))
    with memory_format.suited(model, x):
        assert _lying(model) == before


def test_what_is_not_a_module_passes_through():
    with memory_format.suited(lambda x: x.flatten(1), torch.rand(2, 1, 2, 2)):
        pass
