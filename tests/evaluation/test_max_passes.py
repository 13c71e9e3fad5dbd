"""A limit of passes an image: what counts within it, for every attack, in any batch."""

from __future__ import annotations

import time
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from torch import nn

import bench
from bench.core.registry import attacks
from bench.core.types import UserError
from bench.ops import losses, passes
from bench.ops.counting.limit import PassesSpent, PassLimit
from tests.support import defended, subjects

STEP = "step_size=0.01"
QUICK = {"steps": 6, "searches": 2, "draws": 3, "queries": 30, "samples": 4, "restarts": 1}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return subjects.frozen(subjects.Centred())


def _run(model, written, count=12, eps=0.08, **options):
    x, y = subjects.images(model, count)
    run = bench.evaluate(model, x, y, attacks=written, eps=eps, **options)
    return run, run.verdicts.sort_values(["attack", "eps", "index"], ignore_index=True)


def _spent(rows):
    return rows["forwards"] + rows["backwards"]


def _written(name: str) -> str:
    known = {field.name for field in fields(attacks[name])}
    return f"{name}({','.join(f'{field}={value}' for field, value in QUICK.items() if field in known)})"


OWN = """
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Direct:
    needs: ClassVar[tuple] = ()
    norms: ClassVar[tuple] = ("linf",)
    minimal: ClassVar[bool] = False

    def __call__(self, model, x, y, budget, keys):
        model(x)
        return x
"""

NAMES = [name for name in attacks if name not in ("autoattack", "transfer") and "linf" in attacks[name].norms]


class Linear(nn.Module):
    """Two classes of one pixel: the second from 0.5 on."""

    def forward(self, x):
        level = x.flatten(1).sum(1) - 0.5
        return torch.stack([-level, level], 1)


class TestQueries:
    """Within a limit, by hand: one image of one pixel at 0.2, class 0; it is broken from 0.5 on."""

    x, y = torch.full((2, 1, 1, 1), 0.2), torch.tensor([0, 0])

    def _search(self, model, queries, left, eps=None):
        limit = PassLimit(model, self.x, "linf", eps, torch.tensor(left))

        def search():
            for rows, values in queries:
                x = torch.tensor(values).view(-1, 1, 1, 1)
                passes.outputs(model, x, torch.tensor(rows))
            return self.x

        with passes.counted(2, labels=self.y, limit=limit) as tally:
            return passes.within_limit(search, self.x).flatten().tolist(), tally.forwards.tolist()

    def test_of_a_minimal_attack_that_is_cut_the_smallest_query_so_far_stands(self):
        queries = [([0, 1], [0.9, 0.4]), ([0, 1], [0.6, 0.7]), ([0, 1], [0.8, 0.9]), ([0, 1], [0.5, 0.6])]
        found, spent = self._search(Linear(), queries, [3, 3])
        assert found == pytest.approx([0.6, 0.7])
        assert spent == [3, 3]

    def test_an_image_that_is_not_cut_keeps_what_its_attack_returns(self):
        found, spent = self._search(Linear(), [([0, 1], [0.9, 0.9]), ([1], [0.8])], [1, 1])
        assert found == pytest.approx([0.2, 0.9])
        assert spent == [1, 1]

    def test_of_a_budgeted_attack_the_first_query_within_eps_stands(self):
        eps = torch.tensor([0.5, 0.5], dtype=torch.float64)
        queries = [([0, 1], [0.9, 0.4]), ([0, 1], [0.65, 0.7]), ([0, 1], [0.55, 0.6])]
        found, spent = self._search(Linear(), queries, [9, 9], eps)
        assert found == pytest.approx([0.65, 0.7])
        assert spent == [2, 2]

    def test_an_image_may_be_asked_about_several_times_at_once(self):
        found, spent = self._search(Linear(), [([0, 0, 0, 1], [0.4, 0.9, 0.6, 0.8]), ([0, 1], [0.5, 0.5])], [2, 9])
        assert found == pytest.approx([0.9, 0.2])
        assert spent == [2, 2]

    def test_unlawful_queries_and_clean_images_are_no_finds(self):
        found, _ = self._search(Linear(), [([0, 1], [1.5, float("nan")]), ([0, 1], [0.2, 0.2])], [1, 1])
        assert found == pytest.approx([0.2, 0.2])

    def test_features_are_not_taken_for_classes(self, model):
        x, y = subjects.images(model, 2)
        limit = PassLimit(model, x, "linf", None, torch.tensor([1, 1]))
        with passes.counted(2, labels=y, limit=limit):
            passes.outputs(model.features, (x + 0.01).clamp(0, 1))
        assert limit.left.tolist() == [0, 0]
        assert torch.equal(limit.best, x)

    def test_a_backward_pass_that_is_not_paid_for_leaves_the_forward_one_heard(self):
        eps = torch.tensor([0.5, 0.5], dtype=torch.float64)
        limit = PassLimit(Linear(), self.x, "linf", eps, torch.tensor([1, 2]))
        at = torch.tensor([0.6, 0.3]).view(-1, 1, 1, 1)
        with passes.counted(2, labels=self.y, limit=limit) as tally:
            passes.input_gradient(losses.ce, limit.model, at, self.y)
            assert limit.best.flatten().tolist() == pytest.approx([0.6, 0.2])
            with pytest.raises(PassesSpent):
                passes.outputs(limit.model, at)
        assert (tally.forwards.tolist(), tally.backwards.tolist()) == ([1, 1], [0, 1])

    def test_a_jacobian_costs_a_backward_pass_a_value(self):
        limit = PassLimit(Linear(), self.x, "linf", None, torch.tensor([2, 9]))

        def both(model, x, y):
            logits = model(x)
            return logits, logits

        with passes.counted(2, labels=self.y, limit=limit) as tally:
            passes.jacobian(both, limit.model, self.x, self.y)
        assert (tally.forwards.tolist(), tally.backwards.tolist()) == ([1, 1], [1, 2])
        assert limit.over.tolist() == [True, False]

    def test_an_attack_that_catches_exceptions_is_ended_all_the_same(self):
        limit = PassLimit(Linear(), self.x, "linf", None, torch.tensor([1, 1]))
        asked = []

        def stubborn():
            while True:
                try:
                    asked.append(1)
                    passes.outputs(limit.model, self.x)
                except Exception:
                    continue

        with passes.counted(2, labels=self.y, limit=limit):
            assert torch.equal(passes.within_limit(stubborn, self.x), self.x)
        assert len(asked) == 2


class TestRuns:
    def test_many_steps_within_few_passes_are_few_steps(self, model):
        _, cut = _run(model, f"pgd(steps=100,{STEP})", max_passes=21)
        _, short = _run(model, f"pgd(steps=10,{STEP})")
        same = ["index", "broken", "adv_pred", "size", "lawful"]
        assert cut[same].equals(short[same])
        assert 0 < cut["broken"].sum() < len(cut)
        assert (_spent(cut)[~cut["broken"]] == 21).all()
        assert (_spent(cut) <= _spent(short)).all()

    def test_a_search_without_end_is_ended(self, model):
        began = time.perf_counter()
        _, rows = _run(model, f"pgd(steps=1000000000,{STEP})", max_passes=21)
        assert _spent(rows).max() == 21
        assert time.perf_counter() - began < 60

    @pytest.mark.parametrize("name", NAMES)
    def test_no_row_of_any_attack_costs_more_and_no_batch_matters(self, model, name):
        written, minimal = _written(name), attacks[name].minimal
        for most in (3, 23):
            tables = []
            for size in (1, 16):
                options = {"eps": None if minimal else 0.08, "norm": "linf"}
                _, rows = _run(model, written, 8, batch_size=size, max_passes=most, **options)
                tables.append(rows)
            assert _spent(tables[0]).max() <= most
            assert all(rows.equals(tables[0]) for rows in tables[1:])

    def test_more_passes_never_break_fewer_images(self, model):
        broken = [set(rows[rows["broken"]]["index"]) for rows in (self._cut(model, most) for most in (2, 6, 20, 60))]
        assert all(fewer <= more for fewer, more in pairwise(broken))
        assert len(broken[0]) < len(broken[-1])

    def _cut(self, model, most):
        return _run(model, "multi_margin(steps=10)", max_passes=most)[1]

    def test_a_minimal_attack_gives_smaller_sizes_for_more_passes(self, model):
        sizes = []
        for most in (10, 60, 240):
            _, rows = _run(model, "cw(searches=4,steps=40)", norm="l2", eps=None, max_passes=most)
            assert rows["broken"].any()
            sizes.append(rows["size"].where(rows["broken"], 9.0))
        assert (sizes[1] <= sizes[0]).all() and (sizes[2] <= sizes[1]).all()
        assert sizes[2].sum() < sizes[1].sum() < sizes[0].sum()

    def test_stages_of_an_ensemble_share_the_passes(self, model):
        written = "autoattack-custom(steps=8,queries=30)"
        _, rows = _run(model, written, max_passes=60)
        whole = rows[rows["attack"] == written].set_index("index")
        stages = rows[rows["attack"] != written]
        total = stages.assign(spent=_spent(stages)).groupby("index")["spent"].sum()
        assert (total == _spent(whole)).all()
        assert total.max() == 60
        assert whole["broken"].any() and not whole["broken"].all()

    def test_draws_of_a_random_model_are_passes(self):
        data = bench.data.loading.load("digits", "test")
        run = bench.evaluate(
            defended.noisy(), data.images[:6], data.labels[:6], "pgd(steps=40)", eps=0.2, eot=4, draws=2, max_passes=30
        )
        spent = _spent(run.verdicts)
        # Three steps of four draws each way, a forward pass of four, and one of its two backward passes too few.
        assert spent.max() <= 30
        assert spent.max() >= 28

    def test_a_cheaper_copy_and_the_model_share_the_passes(self, model):
        _, rows = _run(model, "pgd(steps=40)", max_passes=15, search_dtype="bf16")
        assert _spent(rows).max() == 15

    def test_passes_that_are_charged_count_too(self):
        limit = PassLimit(Linear(), TestQueries.x, "linf", None, torch.tensor([5, 9]))
        with passes.counted(2, labels=TestQueries.y, limit=limit) as tally:
            passes.charge(torch.tensor([0, 1]), 4, 3)
        assert (tally.forwards.tolist(), tally.backwards.tolist()) == ([4, 4], [1, 3])

    def test_an_attack_that_calls_the_model_itself_is_refused_by_name(self, model, tmp_path):
        (tmp_path / "own.py").write_text(OWN)
        written = f"{tmp_path / 'own.py'}:Direct"
        _run(model, written)
        with pytest.raises(UserError, match=r"Direct.* calls the model itself, so that its passes are not counted"):
            _run(model, written, max_passes=9)

    @pytest.mark.parametrize("most", [0, -3, 2.5, True, "many", 2**63])
    def test_what_is_no_number_of_passes_is_refused(self, model, most):
        with pytest.raises(UserError, match=r"max_passes .* is not a whole number of at least 1"):
            _run(model, "pgd", max_passes=most)

    def test_the_record_and_the_table_say_it(self, model):
        run, _ = _run(model, "pgd(steps=5)", max_passes=7)
        assert run.record.max_passes == 7
        assert "at most 7 passes an image" in run.to_latex()
        plain, _ = _run(model, "pgd(steps=5)")
        assert "max_passes" not in plain.record.to_dict()
