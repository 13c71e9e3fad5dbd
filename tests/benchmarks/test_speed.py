"""The parts of the benchmarks that are not a clock."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from bench.models import checkpoints
from bench.ops import passes
from bench.ops.frozen import frozen
from benchmarks import speed_floor, speed_memory, speed_plot, speed_rows, speed_sides, speed_works
from benchmarks.speed_clock import ratio
from benchmarks.speed_works import CASES, FLOOR, TARGETS, WORKS, Case, chosen

DIGITS = Case("natural_digits", "natural", many=8, some=8, few=8)


def row(work="pgd", model="natural_digits", against="foolbox", value=2.0, **more):
    lower = against == FLOOR
    head = {"work": work, "model": model, "against": against, "kind": "natural", "n": 8}
    target, met = speed_rows.verdict(work, "natural", against, value)
    spread = {"ratio_low": value / 2, "ratio_high": 2 * value} if value else {}
    numbers = {"ratio": value, **spread, "target": target, "met": met}
    return head | numbers | {"quotient": speed_rows.LOWER_IS_BETTER if lower else "other / ours"} | more


def table(*rows):
    stored = speed_rows.read(speed_rows.Path("nowhere.csv"))
    for one in rows:
        stored = speed_rows.merged(stored, one)
    return stored


@pytest.fixture(scope="module")
def scene():
    return speed_sides.Scene.load(DIGITS, 8)


def test_a_ratio_is_taken_run_by_run():
    seen = ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (seen.middle, seen.low, seen.high) == (2.0, 1.0, 3.0)


def test_every_timed_work_has_a_target_for_each_rival():
    pairs = {(work.name, rival.name) for work in WORKS for rival in work.rivals}
    assert pairs == {pair for pair in TARGETS if pair in pairs}
    assert all(target.at_most == (rival in (FLOOR, speed_works.BARE)) for (_, rival), target in TARGETS.items())


class TestChoice:
    def test_everything_by_default(self):
        assert chosen(None) == list(WORKS)

    def test_a_work_a_rival_and_a_prefix(self):
        picked = chosen("pgd, cw/foolbox, memory")
        assert [work.name for work in picked[:2]] == ["pgd", "cw"]
        assert [rival.name for rival in picked[1].rivals] == ["foolbox"]
        assert {work.how for work in picked[2:]} == {"memory"}

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match="no work pdg"):
            chosen("pdg")


class TestRows:
    def test_a_row_replaces_the_one_with_its_key_only(self):
        stored = table(row(value=2.0), row(against="adv_lib"), row(value=3.0))
        assert stored["ratio"].tolist() == [3.0, 2.0]

    def test_order_is_that_of_the_works_then_rivals_then_models(self):
        mixed = [row("cw"), row(model=CASES[2].model), row(model=CASES[0].model), row(against=FLOOR)]
        stored = table(*mixed)
        assert stored["work"].tolist() == ["pgd", "pgd", "pgd", "cw"]
        assert stored["against"].tolist()[:2] == [FLOOR, "foolbox"]
        assert stored["model"].tolist()[1:3] == [CASES[0].model, CASES[2].model]

    def test_what_is_written_is_read_back(self, tmp_path):
        stored = table(row(), row(against=FLOOR, note="a, b"), row("cw", value=None))
        speed_rows.write(stored, tmp_path)
        again = speed_rows.read(tmp_path / "speed.csv")
        pd.testing.assert_frame_equal(again, stored, check_dtype=False)
        assert speed_rows.holds(again, "pgd", "natural_digits", "foolbox")
        assert not speed_rows.holds(again, "cw", "natural_digits", "foolbox")
        readme = (tmp_path / "README.md").read_text()
        assert all(f"`{name}`" in readme for name in speed_rows.COLUMNS)

    @pytest.mark.parametrize(
        ("against", "value", "met"), [("foolbox", 5.0, True), ("foolbox", 4.9, False), (FLOOR, 1.06, False)]
    )
    def test_targets_are_met_from_the_right_side(self, against, value, met):
        assert speed_rows.verdict("pgd", "natural", against, value)[1] is met

    def test_nothing_asked_is_neither_met_nor_missed(self):
        assert speed_rows.verdict("apgd_ce", "robust", FLOOR, 2.0) == (None, None)

    def test_the_table_shows_ratio_target_and_why_a_row_is_empty(self):
        failed = row("cw", value=None, note=f"{speed_rows.UNRUNNABLE}no numba")
        text = speed_rows.shown(table(row(ours_left=0.25, other_left=0.5, ours_cost=1.0, other_cost=2.0), failed))
        for part in ("2.00 (1.00–4.00)", "≥ 5", "25.0% / 50.0%", "1 / 2 s", "not runnable: no numba"):
            assert part in text

    def test_a_figure_is_drawn_of_any_rows(self, tmp_path):
        for name, rows in {"none": [], "some": [row(), row(against=FLOOR, value=1.02)]}.items():
            speed_plot.write(table(*rows), tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size > 1000


class TestFloor:
    def test_the_schedule_holds_the_rows_of_every_pass(self):
        model, x, y = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), torch.rand(5, 1, 2, 2), torch.ones
        with speed_floor.recorded() as schedule, passes.counted(5):
            passes.outputs(model, x)
            passes.input_gradient(lambda m, z, _: (m(z)[:, 0], m(z)), model, x[:3], y(3, dtype=torch.int64))
        assert schedule == [speed_floor.Pass(5, 0), speed_floor.Pass(3, 1)]
        assert speed_floor.totals(schedule) == (8, 3)

    def test_an_attack_is_recorded_to_its_last_pass(self, scene):
        work = speed_works.Work("ddn", "ddn(steps=5)", (), norm="l2")
        with speed_floor.recorded() as schedule:
            speed_sides.ours(speed_sides.scene_for(scene, work, 6), work).run()
        assert schedule == [speed_floor.Pass(6, 1)] * 5 + [speed_floor.Pass(6, 0)]

    def test_the_replay_makes_those_passes(self):
        model = checkpoints.load("natural_digits").model
        seen = []
        model.register_forward_hook(lambda _module, inputs, logits: seen.append((len(inputs[0]), logits.requires_grad)))
        with frozen(model):
            speed_floor.replay(model, torch.rand(4, 1, 8, 8), [speed_floor.Pass(4, 2), speed_floor.Pass(3, 0)])
        assert seen == [(4, True), (3, False)]


class TestMemory:
    def test_the_highest_running_sum(self):
        assert speed_memory.highest([10, 20, -20, 5, -15]) == 30
        assert speed_memory.highest([-5, 3]) == 0

    @pytest.mark.slow  # the first use of the profiler takes seconds
    def test_released_memory_does_not_count_twice(self):
        def held():
            return [torch.zeros(1000), torch.zeros(1000)]

        def released():
            for _ in range(2):
                torch.zeros(1000)

        assert speed_memory.peak(held) >= 8000 > speed_memory.peak(released) >= 4000


class TestSides:
    def test_a_sweep_gives_the_verdicts_of_separate_runs(self, scene):
        work = speed_works.Work("sweep", "pgd(steps=2)", (), how="exact")
        rival = speed_works.Rival(speed_works.APART, "pgd(steps=2)")
        sides = [speed_sides.ours(scene, work), speed_sides.against(scene, work, rival, ())]
        first, second = (side.judged(side.run()) for side in sides)
        assert len(first.broken) == 8 * speed_works.SWEEP_EPS
        assert first.broken.tolist() == second.broken.tolist()

    def test_what_came_back_clean_is_left(self, scene):
        seen = speed_sides.answer(scene, scene.data.images, scene.eps)
        assert seen.robust == 1
        assert seen.median is None
