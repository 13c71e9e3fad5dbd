"""`soft`, `pma`, `strong` and diversified starts: what each is by definition."""

from __future__ import annotations

import math

import pytest
import torch

from bench.core.registry import attacks
from bench.core.types import Budget
from bench.data.loading import load
from bench.models import checkpoints
from bench.ops import losses, passes, rng
from bench.ops.ascent import Schedule
from tests.support import subjects


@pytest.fixture(scope="module")
def robust():
    """A stored net of the digits that holds against much, and images that it gets right."""
    model = subjects.frozen(checkpoints.load("madry_digits").model)
    data = load("digits")
    right = (model(data.images[:120]).argmax(1) == data.labels[:120]).nonzero().squeeze(1)
    return model, data.images[right], data.labels[right]


def _left(attack, model, x, y, eps=0.2, norm="linf", seed=0):
    budget = Budget(norm, torch.full((len(x),), eps, dtype=torch.float64))
    x_adv = attack(model, x, y, budget, rng.keys(seed, torch.arange(len(x)), "test"))
    return model(x_adv).argmax(1) == y


class TestProbabilityMargin:
    @pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
    def test_value_and_direction_are_those_of_the_softmax(self, scale):
        logits = (torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * scale).double()
        y = logits.argmax(1)
        plain = logits.clone().requires_grad_(True)
        probabilities = plain.softmax(1)
        expected = losses.best_other(probabilities, y) - probabilities.gather(1, y[:, None]).squeeze(1)
        (direction,) = torch.autograd.grad(expected.sum(), plain)
        own = logits.clone().requires_grad_(True)
        values = losses.probability_margin(own, y)
        (slopes,) = torch.autograd.grad(values.sum(), own)
        torch.testing.assert_close(values, expected)
        torch.testing.assert_close(*(part / part.norm(dim=1, keepdim=True) for part in (slopes, direction)))

    def test_the_gradient_does_not_vanish_where_the_softmax_is_sure(self):
        logits = torch.tensor([[400.0, 1.0, 0.0]], requires_grad=True)
        (slopes,) = torch.autograd.grad(losses.probability_margin(logits, torch.tensor([0])).sum(), logits)
        assert slopes[0, 0] < -1 and slopes[0, 1] > 0.5

    def test_a_class_that_is_ruled_out_has_no_part_in_it(self):
        logits = torch.tensor([[2.0, 1.0, -torch.inf]], requires_grad=True)
        values = losses.probability_margin(logits, torch.tensor([0]))
        (slopes,) = torch.autograd.grad(values.sum(), logits)
        assert values.isfinite().all() and slopes.isfinite().all() and slopes[0, 2] == 0


class TestSchedule:
    def test_steps_fall_along_half_a_cosine(self):
        schedule = Schedule(5, torch.ones(1), final=0.2)
        expected = [0.2 + 0.8 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)]
        assert [schedule.factor(step) for step in range(5)] == pytest.approx(expected)
        assert schedule.factor(0) == 1 and schedule.factor(4) == pytest.approx(0.2)

    def test_softness_is_gone_at_seventy_percent_of_the_steps(self):
        schedule = Schedule(50, torch.ones(1), share=0.3)
        assert schedule.softness(0) == 0.3 and schedule.softness(34) > 0
        assert [schedule.softness(step) for step in range(35, 50)] == [0] * 15


class TestSoft:
    def test_a_target_costs_its_steps_and_a_look(self, robust):
        model, x, y = robust
        with passes.counted(len(x)) as tally:
            standing = _left(attacks["soft"](steps=20, targets=2), model, x, y, eps=0.05)
        # Ordering: a forward and nine backward passes; a target: twenty of both, and a forward pass at the end.
        assert set(tally.forwards[standing].tolist()) == {1 + 2 * 21}
        assert set(tally.backwards[standing].tolist()) == {9 + 2 * 20}

    def test_two_targets_leave_less_than_pgd_with_as_many_steps(self, robust):
        model, x, y = robust
        assert _left(attacks["soft"](), model, x, y).sum() < _left(attacks["pgd"](steps=110), model, x, y).sum()


class TestStrong:
    def test_stages_by_the_number_of_classes(self):
        def names(classes):
            strong = attacks["strong"]()
            return [name for name, _ in type(strong)(classes=classes).stages("linf")]

        assert names(10) == ["soft", "pma", "apgd_ce", "apgd_t", "square"]
        assert names(3) == ["soft", "pma", "apgd_ce", "apgd_dlr", "square"]
        assert names(2) == ["soft", "pma", "apgd_ce", "square"]

    def test_leaves_no_more_than_autoattack_for_a_fifth_of_its_passes(self, robust):
        model, x, y = robust
        x, y = x[:40], y[:40]
        seen = {}
        for name in ("strong", "autoattack"):
            with passes.counted(len(x)) as tally:
                standing = _left(attacks[name](), model, x, y)
            seen[name] = standing, (tally.forwards + tally.backwards)[standing].double().mean()
        assert seen["strong"][0].sum() <= seen["autoattack"][0].sum()
        assert seen["strong"][1] <= seen["autoattack"][1] / 4


class TestDiversifiedStart:
    def test_makes_its_steps_before_those_of_the_run(self, robust):
        model, x, y = robust
        plain, diversified = attacks["pgd"](steps=10), attacks["pgd"](steps=10, odi=2)
        counts = []
        for attack in (plain, diversified):
            with passes.counted(len(x)) as tally:
                standing = _left(attack, model, x, y, eps=0.01)
            counts.append(set(tally.backwards[standing].tolist()))
        assert counts == [{10}, {12}]

    def test_goes_to_the_corner_that_a_direction_of_logits_leads_to(self):
        """On a linear net one step of eps climbs the weighted sum of logits all the way."""
        model = subjects.linear((1, 6, 6), 5)
        x = torch.full((3, 1, 6, 6), 0.5)
        y = model(x).argmax(1)
        keys = subjects.keys(3)
        eps = 1e-6  # too small to fool: what is judged last is a corner, or else the clean image
        budget = Budget("linf", torch.full((3,), eps, dtype=torch.float64))
        assert torch.equal(attacks["pgd"](steps=1, odi=1)(model, x, y, budget, keys), x)


class TestLastIterate:
    @pytest.mark.parametrize("name", ["pgd", "bim", "mim", "multi_targeted", "bim_multi_targeted"])
    def test_breaks_no_image_that_any_iterate_does_not(self, robust, name):
        model, x, y = robust
        kind = attacks[name]
        by_any = _left(kind(steps=10), model, x, y, eps=0.15)
        by_last = _left(kind(steps=10, last=True), model, x, y, eps=0.15)
        assert not (by_any & ~by_last).any() and by_last.sum() >= by_any.sum()

    def test_takes_every_step(self, robust):
        model, x, y = robust
        with passes.counted(len(x)) as tally:
            _left(attacks["pgd"](steps=10, last=True), model, x, y, eps=0.3)
        assert set(tally.backwards.tolist()) == {10} and set(tally.forwards.tolist()) == {11}
