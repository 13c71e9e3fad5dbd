"""Adam's averages against torch's optimiser, and one image's steps apart from another's."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.ops import adam, norms, rng
from bench.ops.adam import Adam

_RATE = 0.01


def _gradient(step: int, count: int = 3) -> Tensor:
    return rng.normal(rng.fold(rng.keys(0, torch.arange(count), "adam"), step), (1, 2, 2)).double()


def _moved(state: Adam, z: Tensor) -> Tensor:
    first, second = (norms.per_example(share, z) for share in state.corrections())
    return z - _RATE * (state.mean / first) / ((state.square / second).sqrt() + adam.TINY)


def test_it_moves_as_torchs_adam_does() -> None:
    weight = torch.nn.Parameter(torch.zeros(3, 1, 2, 2, dtype=torch.float64))
    z, state = weight.detach().clone(), Adam.begin(weight.detach())
    reference = torch.optim.Adam([weight], lr=_RATE, betas=(adam.BETA1, adam.BETA2), eps=adam.TINY)
    for step in range(20):
        weight.grad = _gradient(step)
        reference.step()
        state.add(_gradient(step))
        z = _moved(state, z)
        torch.testing.assert_close(z, weight.detach())


def test_parts_in_place_are_the_same_up_to_rounding() -> None:
    whole, parts = Adam.begin(_gradient(0)), Adam.begin(_gradient(0))
    for step in range(20):
        whole.add(_gradient(step))
        parts.count += 1
        for cut in (slice(0, 2), slice(2, 3)):
            mean, square = parts.add_part(cut, _gradient(step)[cut])
            assert torch.equal(mean, parts.mean[cut]) and torch.equal(square, parts.square[cut])
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.square, whole.square)
    assert torch.equal(parts.count, whole.count)


def test_an_image_that_starts_again_is_as_a_new_one_and_the_others_go_on() -> None:
    state, alone, fresh = Adam.begin(_gradient(0)), Adam.begin(_gradient(0)), Adam.begin(_gradient(0))
    for step in range(5):
        state.add(_gradient(step))
        alone.add(_gradient(step))
    again = torch.tensor([False, True, False])
    state.restart(again)
    for step in range(5, 9):
        for other in (state, alone, fresh):
            other.add(_gradient(step))
    assert state.count.tolist() == [9, 4, 9]
    for name in ("mean", "square"):
        seen = getattr(state, name)
        assert torch.equal(seen[again], getattr(fresh, name)[again])
        assert torch.equal(seen[~again], getattr(alone, name)[~again])
    assert torch.equal(state.keep(torch.tensor([2, 0])).mean, state.mean[[2, 0]])
