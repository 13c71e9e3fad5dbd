"""Sizes, steps and projections by their definitions, on drawn points: hypothesis looks for those that break them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.core import verdicts
from bench.core.types import NORMS, Budget, Norm
from bench.ops import norms, rng

_ORDER: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
in_every_norm = pytest.mark.parametrize("norm", NORMS)
# The same examples in every session.
drawn = settings(derandomize=True, database=None, deadline=None, max_examples=40)

pixels = st.floats(0, 1, width=32)
anywhere = st.floats(-3, 3, width=32)
radii = st.floats(1e-3, 2)


@st.composite
def pairs(draw: st.DrawFn, values: st.SearchStrategy[float], size: int | None = None) -> tuple[Tensor, Tensor]:
    """An image (1, 1, 1, D) of [0, 1], and a point like it of other values."""
    width = size or draw(st.integers(1, 9))
    row = [draw(st.lists(kind, min_size=width, max_size=width)) for kind in (pixels, values)]
    image, point = torch.tensor(row, dtype=torch.float32).view(2, 1, 1, 1, width)
    return image, point


def ball(norm: Norm, x: Tensor, eps: float) -> norms.Ball:
    return norms.Ball.around(x, Budget(norm, torch.full((len(x),), eps, dtype=torch.float64)))


def distance(a: Tensor, b: Tensor, norm: Norm) -> float:
    return float(norms.size(a.double() - b.double(), norm))


def lawful(x: Tensor, x_adv: Tensor, norm: Norm, eps: float) -> bool:
    """In the box, and in the ball up to what storing an image in float32 adds; in linf exactly."""
    slack = 0.0 if norm == "linf" else verdicts.rounding(x.shape[1:].numel(), norm)
    return bool(x_adv.min() >= 0 and x_adv.max() <= 1) and distance(x_adv, x, norm) <= eps + slack


@in_every_norm
@drawn
@given(pair=pairs(anywhere))
def test_a_size_is_numpys_norm(norm: Norm, pair: tuple[Tensor, Tensor]) -> None:
    delta = torch.cat(pair).double()
    expected = [np.linalg.norm(row, _ORDER[norm]) for row in delta.flatten(1).numpy()]
    np.testing.assert_allclose(norms.size(delta, norm).numpy(), expected, rtol=1e-14, atol=1e-300)


@in_every_norm
@drawn
@given(pair=pairs(anywhere))
def test_the_steepest_step_has_size_one_and_gains_the_dual_norm(norm: Norm, pair: tuple[Tensor, Tensor]) -> None:
    gradient = pair[1].double()
    length = norms.size(gradient, norms.DUAL[norm])
    if length < 1e-6:
        return
    step = norms.steepest(gradient, norm)
    torch.testing.assert_close(norms.size(step, norm), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close((step * gradient).flatten(1).sum(1), length)


@in_every_norm
@drawn
@given(pair=pairs(anywhere), eps=radii)
def test_a_projection_lies_in_the_ball_and_the_box_and_is_its_own(
    norm: Norm, pair: tuple[Tensor, Tensor], eps: float
) -> None:
    x, point = pair
    projected = ball(norm, x, eps).project(point)
    assert lawful(x, projected, norm, eps)
    again = ball(norm, x, eps).project(projected)
    torch.testing.assert_close(again, projected, rtol=0, atol=0 if norm == "linf" else 1e-6)


@in_every_norm
@drawn
@given(pair=pairs(pixels), share=st.floats(0, 0.999))
def test_a_point_inside_stays(norm: Norm, pair: tuple[Tensor, Tensor], share: float) -> None:
    x, corner = pair
    eps = max(distance(corner, x, norm), 1e-2)
    inside = torch.lerp(x, corner, share)
    torch.testing.assert_close(ball(norm, x, eps).project(inside), inside, rtol=0, atol=2e-7)


@drawn
@given(pair=pairs(anywhere), eps=radii)
def test_in_linf_no_lawful_point_is_nearer(pair: tuple[Tensor, Tensor], eps: float) -> None:
    """Coordinate by coordinate over a grid of lawful values: those of the ends are among them."""
    x, point = pair
    projected = ball("linf", x, eps).project(point).double()
    ticks = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    start, goal = x.double().flatten(), point.double().flatten()
    candidates = (start - eps).clamp_min(0) + ticks * ((start + eps).clamp_max(1) - (start - eps).clamp_min(0))
    nearest = (candidates - goal).abs().amin(0)
    assert ((projected.flatten() - goal).abs() <= nearest + 1e-6).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
@drawn
@given(pair=pairs(anywhere, size=2), eps=st.floats(0.05, 2))
def test_in_the_plane_the_projection_onto_a_ball_is_the_nearest_point_of_a_fine_grid(
    norm: Norm, pair: tuple[Tensor, Tensor], eps: float
) -> None:
    delta = pair[1].double()
    projected = norms.scaled_into(delta, norm, torch.tensor([eps], dtype=torch.float64))
    ticks = torch.linspace(-eps, eps, 201, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks).view(-1, 1, 1, 2)
    inside = grid[norms.size(grid, norm) <= eps]
    nearest = float(norms.size(inside - delta, "l2").min())
    assert distance(projected, torch.zeros_like(delta), norm) <= eps * (1 + 1e-12)
    assert distance(projected, delta, "l2") <= nearest + 1e-9
    assert nearest <= distance(projected, delta, "l2") + 2 * eps / 100  # the grid is that coarse


@drawn
@given(pair=pairs(pixels), eps=radii)
def test_the_linf_box_is_lawful_to_the_last_bit_and_gives_next_to_nothing_away(
    pair: tuple[Tensor, Tensor], eps: float
) -> None:
    x = pair[0]
    low, high = norms.linf_box(x, torch.tensor([eps], dtype=torch.float64))
    for bound, room in ((low, x.double()), (high, 1 - x.double())):
        reach = (bound.double() - x.double()).abs()
        assert (reach <= eps).all()
        assert (reach >= room.clamp_max(eps) - 2.0**-22).all()
    assert low.min() >= 0 and high.max() <= 1


@in_every_norm
@drawn
@given(pair=pairs(pixels), direction=pairs(anywhere), eps=radii, length=st.floats(0, 3, width=32))
def test_a_step_is_a_move_and_a_projection(
    norm: Norm, pair: tuple[Tensor, Tensor], direction: tuple[Tensor, Tensor], eps: float, length: float
) -> None:
    x, z = pair
    if direction[1].shape != x.shape:
        return
    around = ball(norm, x, eps)
    moved = around.step(z, direction[1], torch.tensor([length]))
    torch.testing.assert_close(moved, around.project(z + length * direction[1]), rtol=0, atol=2e-6)


@in_every_norm
@drawn
@given(pair=pairs(pixels), eps=radii, seed=st.integers(0, 2**31))
def test_random_points_are_lawful(norm: Norm, pair: tuple[Tensor, Tensor], eps: float, seed: int) -> None:
    x = pair[0]
    assert lawful(x, ball(norm, x, eps).sample(rng.keys(seed, torch.arange(1), "sample")), norm, eps)
