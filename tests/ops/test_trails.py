"""The best margin at five points of a search, image by image."""

from __future__ import annotations

import torch

from bench.ops.trails import Trail


def _logits(margins: list[float]) -> torch.Tensor:
    """Rows of two logits whose margin for class 0 is given."""
    return torch.tensor([[0.0, margin] for margin in margins])


def test_points_are_the_best_so_far_at_the_start_each_quarter_and_the_end() -> None:
    trail, y = Trail(), torch.zeros(2, dtype=torch.int64)
    rows = torch.arange(2)
    for step in range(9):
        trail.see(rows, _logits([float(step), -float(step)]), y)
    assert trail.points(3)[0].tolist() == [0, 2, 4, 6, 8]
    assert trail.points(3)[1].tolist() == [0, 0, 0, 0, 0]
    assert trail.points(3)[2].isnan().all()


def test_images_may_leave_and_other_trails_go_on_with_them() -> None:
    whole, later, y = Trail(), Trail(), torch.zeros(1, dtype=torch.int64)
    whole.see(torch.tensor([1]), _logits([-3.0]), y)
    later.see(torch.tensor([0]), _logits([-2.0]), y)
    later.see(torch.tensor([0]), _logits([-1.0]), y)
    whole.extend(torch.tensor([1]), later)
    assert whole.points(2)[1].tolist() == [-3, -3, -2, -2, -1]


def test_a_margin_that_is_not_a_number_is_not_the_best() -> None:
    trail, y = Trail(), torch.zeros(1, dtype=torch.int64)
    for margin in (-2.0, float("nan"), -1.0):
        trail.see(torch.tensor([0]), _logits([margin]), y)
    assert trail.points(1)[0].tolist() == [-2, -2, -2, -2, -1]
