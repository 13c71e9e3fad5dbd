"""Adversarial labels against plain references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bench.core.types import UserError
from bench.ops import adversarial_labels, losses
from bench.ops.adversarial_labels import LabelAdversary
from defenses.bilateral import most_confusing

SOLUTIONS = ("main", "sup")


def drawn(count: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (count, classes) in double precision and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64) * spread
    return logits, torch.randint(classes, (count,), generator=generator)


def plain(logits: list[float], c: int, solution: str, beta: float, gamma: float, top: int) -> list[float]:
    """One label, by loops over the formulas as papers print them: budget first, then shares."""
    total = sum(math.exp(value - max(logits)) for value in logits)
    v = [-math.log(math.exp(value - max(logits)) / total + 1e-8) for value in logits]
    wrong = sorted((k for k in range(len(v)) if k != c), key=lambda k: -v[k])[: top or len(v)]
    least, largest = min(v[k] for k in wrong), max(v[k] for k in wrong)
    if solution == "main":
        whole = sum(v[k] - least + gamma for k in wrong)
        share = {k: (v[k] - least + gamma) / whole for k in wrong}
        eps_y = 1 / (1 + beta * (largest - least + gamma) / whole)
    else:
        whole = sum(v[k] for k in wrong)
        share = {k: v[k] / whole for k in wrong}
        eps_y = 1 / (1 + beta * largest / whole)
    return [1 - eps_y if k == c else eps_y * share.get(k, 0.0) for k in range(len(v))]


class TestLabels:
    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize(("classes", "beta", "top"), [(2, 9.0, 0), (10, 9.0, 0), (10, 9.0, 4), (100, 11.0, 9)])
    @pytest.mark.parametrize("spread", [0.1, 2.0, 10.0])
    def test_are_the_formulas(self, solution, classes, beta, top, spread) -> None:
        logits, y = drawn(40, classes, spread)
        labels = LabelAdversary(solution, beta, 0.01, top)(logits, y)
        for row, c, mine in zip(logits.tolist(), y.tolist(), labels.tolist(), strict=True):
            assert mine == pytest.approx(plain(row, c, solution, beta, 0.01, top), rel=1e-9, abs=1e-9)

    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize(("classes", "beta"), [(3, 1.0), (10, 9.0), (100, 11.0)])
    def test_invariants(self, solution, classes, beta) -> None:
        logits, y = drawn(5000, classes, 4.0, seed=1)
        labels = LabelAdversary(solution, beta)(logits, y)
        truth = labels.gather(1, y[:, None]).squeeze(1)
        wrong = labels.scatter(1, y[:, None], 0)
        ones, eps_y = torch.ones_like(truth), 1 - truth
        torch.testing.assert_close(labels.sum(1), ones)
        assert (labels >= 0).all() and (labels <= 1).all()
        # The equality case of eq. 3, and so the bound on eps_y.
        torch.testing.assert_close(truth, beta * wrong.amax(1))
        assert (eps_y > 1 / (1 + beta)).all() and (eps_y <= 1 / (1 + beta / (classes - 1)) + 1e-12).all()
        # The order of the shares is that of the losses; the most confusing class has the least.
        v = adversarial_labels.class_losses(logits).scatter(1, y[:, None], torch.inf)
        assert torch.equal(v.argmin(1), most_confusing(logits, y))
        shares = wrong.scatter(1, y[:, None], torch.inf)
        assert torch.equal(v.argsort(1), shares.argsort(1))

    def test_the_main_solution_gives_the_most_confusing_class_less_unless_it_is_certain(self) -> None:
        logits, y = drawn(20000, 10, 8.0, seed=2)
        certain = torch.zeros(200, 10, dtype=torch.float64)
        certain[:, 1] = torch.linspace(6, 12, 200)
        logits, y = torch.cat([logits, certain]), torch.cat([y, torch.zeros(200, dtype=torch.int64)])
        target = most_confusing(logits, y)[:, None]
        v = adversarial_labels.class_losses(logits).gather(1, target).squeeze(1)
        main, sup = (LabelAdversary(name)(logits, y).gather(1, target).squeeze(1) for name in SOLUTIONS)
        assert torch.equal(main < sup, v > 0.01) and (v < 0.01).sum() > 100

    def test_main_is_the_worse_label_for_the_model(self) -> None:
        # "A higher objective value for the maximisation": at equal eps_y, more share where the loss is larger.
        logits, y = drawn(2000, 10, 3.0, seed=3)
        v = adversarial_labels.class_losses(logits).scatter(1, y[:, None], 0)
        shares = [LabelAdversary(name).weights(logits, y) for name in SOLUTIONS]
        values = [(share / share.sum(1, keepdim=True) * v).sum(1) for share in shares]
        assert ((values[0] - values[1])[v.scatter(1, y[:, None], torch.inf).amin(1) > 0.01] >= -1e-9).all()

    @pytest.mark.parametrize("solution", SOLUTIONS)
    def test_equal_classes_give_label_smoothing(self, solution) -> None:
        y = torch.tensor([0, 3, 9])
        labels = LabelAdversary(solution)(torch.full((3, 10), 7.0), y)
        expected = torch.full((3, 10), 0.5 / 9).scatter(1, y[:, None], 0.5)
        torch.testing.assert_close(labels, expected)

    @pytest.mark.parametrize("solution", SOLUTIONS)
    @pytest.mark.parametrize("height", [0.0, 1e4, -1e4])
    def test_two_classes_and_saturated_logits(self, solution, height) -> None:
        logits = torch.tensor([[height, 0.0], [0.0, height]])
        labels = LabelAdversary(solution)(logits, torch.zeros(2, dtype=torch.int64))
        torch.testing.assert_close(labels, torch.tensor([[0.9, 0.1]] * 2))
        many = LabelAdversary(solution)(torch.eye(5) * height, torch.arange(5).flip(0))
        assert many.isfinite().all() and torch.allclose(many.sum(1), torch.ones(5))

    def test_top_leaves_the_other_classes_nothing(self) -> None:
        logits, y = drawn(50, 100, 3.0)
        labels = LabelAdversary("main", 11.0, top=9)(logits, y)
        assert ((labels > 0).sum(1) == 10).all()
        full = LabelAdversary("main", 11.0)(logits, y)
        assert torch.equal(LabelAdversary("main", 11.0, top=99)(logits, y), full)

    def test_one_hot_is_no_adversary_and_no_image_no_label(self) -> None:
        logits, y = drawn(6, 4, 1.0)
        assert torch.equal(LabelAdversary("one_hot")(logits, y), nn.functional.one_hot(y, 4).double())
        assert LabelAdversary()(logits[:0], y[:0]).shape == (0, 4)

    def test_carry_no_gradient(self) -> None:
        logits, y = drawn(6, 4, 1.0)
        assert not LabelAdversary()(logits.requires_grad_(), y).requires_grad

    def test_soft_cross_entropy_of_one_hot_labels_is_cross_entropy(self) -> None:
        logits, y = drawn(20, 7, 3.0)
        values = adversarial_labels.soft_cross_entropy(logits, nn.functional.one_hot(y, 7).double())
        torch.testing.assert_close(values, losses.cross_entropy(logits, y))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"solution": "mian"}, "did you mean main"),
            ({"beta": 0.5}, "give at least 1"),
            ({"beta": math.nan}, "give at least 1"),
            ({"gamma": 0.0}, "give more than 0"),
            ({"top": -1}, "give 0 for all"),
        ],
    )
    def test_bad_settings_are_one_line(self, fields, said) -> None:
        with pytest.raises(UserError, match=said) as fault:
            LabelAdversary(**fields)
        assert "\n" not in str(fault.value)

    def test_one_class_is_refused(self) -> None:
        with pytest.raises(UserError, match="has one class"):
            LabelAdversary()(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
