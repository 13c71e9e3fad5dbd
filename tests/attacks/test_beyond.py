"""Islands, and `beyond`: what crossing finds, what a linear programme solves, what is counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from bench.attacks.budgeted.islands import Islands
from bench.attacks.budgeted.pma import PMA
from bench.attacks.ensembles.beyond import Beyond
from bench.attacks.ensembles.strong import Strong
from bench.core.types import Budget
from bench.ops import norms, passes, rng
from bench.ops.norms import Ball
from bench.ops.pieces.held import HeldNet, is_affine
from bench.ops.pieces.programme import best_of_piece, polished
from bench.ops.population import crossover
from tests.support import subjects
from tests.support.oracles import shifted

EPS = 0.2


def _blocks(side: int = 4, block: int = 2, better: float = 0.6, valley: float = 0.05) -> nn.Sequential:
    """A net that is broken only if every block of a grey image is pushed to its better end, past a valley.

    A block whose mean moves by s (in units of eps) gives 1 at s = 1 and `better` at s = -1, and nothing at `valley`,
    past which gradients lead to 1. So a gradient decides block by block, by where it starts.
    """
    size = side * block
    down = torch.arange(size) // block
    number = (down[:, None] * side + down[None]).flatten()
    means = torch.zeros(side * side, size * size)
    means[number, torch.arange(size * size)] = 1 / block**2 / EPS
    first, last = nn.Linear(size * size, 2 * side * side), nn.Linear(2 * side * side, 2)
    first.weight.data = torch.cat([means / (1 - valley), -means / (1 + valley) * better])
    rest = 0.5 / EPS + valley
    first.bias.data = torch.cat(
        [torch.full((side**2,), -rest / (1 - valley)), torch.full((side**2,), rest / (1 + valley) * better)]
    )
    last.weight.data = torch.stack([torch.zeros(2 * side**2), torch.ones(2 * side**2)])
    last.bias.data = torch.tensor([0.0, -(side**2) + (1 - better) / 2])
    return subjects.frozen(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last))


def _grey(side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1, 1, side, side), 0.5), torch.zeros(1, dtype=torch.int64)


def _broken(attack, model, x, y, seed: int = 0) -> tuple[bool, int]:
    keys = rng.keys(shifted(seed), torch.arange(len(y)), "attack")
    with passes.counted(len(y)) as tally:
        x_adv = attack(model, x, y, subjects.budget("linf", EPS, len(y)), keys)
    return bool((model(x_adv).argmax(1) != y).all()), int(tally.forwards[0])


def test_crossing_joins_what_restarts_find_apart():
    model, (x, y) = _blocks(), _grey()
    broken, cost = _broken(Islands(islands=1, steps=10, polish=6, share=0, pieces=0), model, x, y)
    assert broken
    restarts = PMA(steps=10, restarts=cost // 10 + 1)
    assert not _broken(restarts, model, x, y)[0]


def test_without_crossing_the_same_starts_find_nothing():
    model, (x, y) = _blocks(), _grey()
    assert not _broken(Islands(islands=1, starts=24, steps=20, generations=0, share=0, pieces=0), model, x, y)[0]


class TestCrossover:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_children_keep_the_budget(self, norm):
        keys, eps = subjects.keys(40), 0.3 if norm == "linf" else 1.5
        x = rng.uniform(subjects.keys(40, "x"), (3, 9, 7))
        ball = Ball.around(x, Budget(norm, torch.full((40,), eps, dtype=torch.float64)))
        first, second = ball.sample(rng.fold(keys, 8)), ball.sample(rng.fold(keys, 9))
        mask = crossover.smooth_mask(keys, (9, 7), 4.0)
        z = crossover.blended(first, second, mask, ball)
        anew = crossover.patched(z, ball, keys, 0.2, 0.5)
        for points in (z, anew):
            size = norms.size(points.double() - x.double(), norm)
            assert (size <= eps + (0 if norm == "linf" else 1e-7)).all() and points.min() >= 0 and points.max() <= 1

    def test_a_blend_is_one_parent_where_the_mask_is_1_and_the_other_where_it_is_0(self):
        x = torch.full((2, 1, 4, 4), 0.5)
        ball = Ball.around(x, subjects.budget("linf", 0.3, 2))
        first, second = (ball.sample(subjects.keys(2, name)) for name in ("a", "b"))
        mask = (torch.arange(4) < 2).float().expand(2, 1, 4, 4)
        z = crossover.blended(first, second, mask, ball)
        assert torch.equal(z[..., :2], first[..., :2]) and torch.equal(z[..., 2:], second[..., 2:])

    def test_masks_are_smooth_and_take_from_both(self):
        mask = crossover.smooth_mask(subjects.keys(200), (28, 28), 4.0)
        assert mask.min() >= 0 and mask.max() <= 1 and 0.4 < mask.mean() < 0.6
        assert (mask.diff(dim=2).abs().mean() + mask.diff(dim=3).abs().mean()) / 2 < 0.1
        assert (mask.flatten(1).std(1) > 0.1).float().mean() > 0.9

    def test_parents_differ_and_all_are_taken(self):
        first, second = crossover.parents(subjects.keys(2000), 5)
        assert (first != second).all()
        assert torch.bincount(first).min() > 300 and torch.bincount(second).min() > 300

    def test_a_patch_is_one_rectangle_at_the_ends_of_the_range(self):
        x = torch.full((50, 1, 20, 20), 0.5)
        ball = Ball.around(x, subjects.budget("linf", 0.25, 50))
        changed = crossover.patched(x, ball, subjects.keys(50), 0.2, 0.5) != x
        sides = [changed.flatten(1, 2).any(dim).sum(1) for dim in (1, 2)]
        assert torch.equal(sides[0] * sides[1], changed.flatten(1).sum(1))
        assert min(side.min() for side in sides) >= 3 and max(side.max() for side in sides) <= 11


def _tiny(seed: int) -> tuple[nn.Sequential, torch.Tensor]:
    """A net of two hidden layers on four pixels, and an image."""
    draws = iter(rng.normal(rng.keys(shifted(seed), torch.arange(6), "tiny"), (40,)))
    layers = [nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(3, 2)]
    for layer in layers:
        layer.weight.data = next(draws)[: layer.weight.numel()].view_as(layer.weight).clone()
        layer.bias.data = next(draws)[: layer.bias.numel()].clone() * 0.3
    model = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    return subjects.frozen(model), rng.uniform(rng.keys(shifted(seed), torch.arange(1), "x"), (1, 2, 2))


def _whole_programme(
    model: nn.Sequential, pattern: list[np.ndarray], low: np.ndarray, high: np.ndarray
) -> float | None:
    """The greatest margin of a pattern between bounds, every constraint written out; None if no point has it."""
    weight, bias, rows, room = np.eye(4), np.zeros(4), [], []
    for layer in [part for part in model if isinstance(part, nn.Linear)]:
        weight, bias = (
            layer.weight.double().numpy() @ weight,
            layer.weight.double().numpy() @ bias + layer.bias.double().numpy(),
        )
        if len(pattern) > len(rows):
            on = pattern[len(rows)]
            sign = np.where(on, 1.0, -1.0)
            rows.append(-sign[:, None] * weight)
            room.append(sign * bias)
            weight, bias = weight * on[:, None], bias * on
    objective, rest = weight[1] - weight[0], bias[1] - bias[0]
    bounds = np.stack([low, high], 1)
    result = linprog(-objective, A_ub=np.concatenate(rows), b_ub=np.concatenate(room), bounds=bounds, method="highs")
    return rest - result.fun if result.status == 0 else None


class TestPieces:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_best_of_a_piece_is_the_whole_programmes(self, seed):
        model, x = _tiny(seed)
        low, high = (x - 0.3).clamp(0, 1), (x + 0.3).clamp(0, 1)
        net = HeldNet(model, 0, 1)
        pattern = net.pattern(x)
        solution = best_of_piece(net, x, pattern, net.climb(x, pattern)[0], low, high)
        reached = float(net.values(x + solution.delta.view_as(x).float(), pattern)[0])
        signs = [part[0].numpy() for part in pattern]
        best = _whole_programme(model, signs, *(bound.flatten().double().numpy() for bound in (low, high)))
        assert reached == pytest.approx(best, abs=1e-4)

    @pytest.mark.parametrize("seed", range(6))
    def test_the_way_ends_where_no_small_change_improves(self, seed):
        model, x = _tiny(seed)
        with torch.no_grad():
            model[5].bias[1] -= 50  # so that it does not end early, at a find
        low, high = (x - 0.3).clamp(0, 1), (x + 0.3).clamp(0, 1)
        net = HeldNet(model, 0, 1)
        z = polished(net, x, low, high, pieces=40)
        around = (z + (rng.uniform(subjects.keys(4000), (1, 2, 2)) - 0.5) * 0.01).clamp(low, high)
        assert (net.values(around)[0] <= net.values(z)[0] + 2e-5).all()
        assert float(net.values(z)[0]) >= float(net.values(x)[0])

    def test_the_best_of_all_patterns_is_reached_from_one_of_the_corners(self):
        model, x = _tiny(2)
        with torch.no_grad():
            model[5].bias[1] -= 50
        low, high = (x - 0.3).clamp(0, 1), (x + 0.3).clamp(0, 1)
        net, ends = HeldNet(model, 0, 1), [bound.flatten().double().numpy() for bound in (low, high)]
        patterns = itertools.product([False, True], repeat=9)
        split = [[np.array(signs[:6]), np.array(signs[6:])] for signs in patterns]
        best = max(value for signs in split if (value := _whole_programme(model, signs, *ends)) is not None)
        corners = [
            torch.where(torch.tensor(which).view_as(x), high, low)
            for which in itertools.product([False, True], repeat=4)
        ]
        reached = max(float(net.values(polished(net, z, low, high, pieces=40))[0]) for z in corners)
        assert reached == pytest.approx(best, abs=1e-4)

    def test_nets_that_are_not_affine_between_their_relus_are_left_alone(self):
        x = torch.rand(1, 1, 6, 6)
        convolution = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3).eval(), nn.ReLU(inplace=True)]
        for layers, affine in [
            ([nn.AvgPool2d(2)], True),
            ([nn.MaxPool2d(2)], False),
            ([nn.Tanh(), nn.AvgPool2d(2)], False),
        ]:
            model = subjects.frozen(nn.Sequential(*convolution, *layers, nn.Flatten(), nn.Linear(12, 4)))
            assert is_affine(HeldNet(model, 0, 1), x) == affine

    def test_passes_are_counted(self):
        model, x = _tiny(0)
        seen = []
        model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        net = HeldNet(model, 0, 1)
        polished(net, x, x - 0.1, x + 0.1, pieces=5)
        assert net.forwards == sum(seen) and 0 < net.backwards < net.forwards


def test_places_named_several_times_count_as_often():
    with passes.counted(3) as tally:
        passes.charge(torch.tensor([2, 0, 2, 2]), 5, 3)
        tally.add(torch.tensor([1, 1]), torch.tensor([True, False]), 1, 0)
    assert tally.forwards.tolist() == [5, 2, 15] and tally.backwards.tolist() == [3, 0, 9]
    assert tally.not_finite.tolist() == [False, True, False]


def test_the_stages_are_those_of_strong_and_then_each_island_with_its_target_in_turn():
    stages = dict(Beyond(islands=3, starts=7).stages("linf"))
    strong = [name for name, _ in Strong().stages("linf")]
    assert list(stages) == [*strong, "island_1", "island_2", "island_3"]
    assert [stages[f"island_{number}"].first for number in (1, 2, 3)] == [0, 1, 2]
    assert all(
        stages[f"island_{number}"].islands == 1 and stages[f"island_{number}"].starts == 7 for number in (1, 2, 3)
    )
