"""Ensembles, presets and grids of eps: stages on what is left, rows that say so, names that are earned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bench
from bench.attacks.ensembles.autoattack import AutoAttack, AutoAttackCustom
from bench.core.registry import attacks
from bench.core.types import ThreatModel, UserError
from bench.evaluation import eps_order
from bench.evaluation.plan import plan
from bench.report import measures
from tests.support import subjects

QUICK = "autoattack-custom(steps=8,queries=30)"
STAGES = ["apgd_ce", "apgd_t", "fab_t", "square"]


def _evaluated(written: str, model: nn.Module | None = None, eps: float = 0.08, **options):
    model = model or subjects.frozen(subjects.Centred())
    x, y = subjects.images(model, 12)
    return bench.evaluate(model, x, y, attacks=written, eps=eps, **options)


class TestStages:
    def test_a_row_a_stage_and_one_for_the_whole(self):
        run = _evaluated(QUICK)
        assert list(run.verdicts["attack"].unique()) == [f"{QUICK}/{name}" for name in STAGES] + [QUICK]
        assert list(run.table()["attack"]) == [*run.verdicts["attack"].unique(), "worst"]

    def test_what_is_broken_stays_broken_and_is_left_alone(self):
        rows = _evaluated(QUICK).verdicts.set_index(["attack", "index"])
        before = None
        for name in STAGES:
            stage = rows.loc[f"{QUICK}/{name}"]
            if before is not None:
                assert stage["broken"][before["broken"]].all()
                assert (stage["forwards"][before["broken"]] == 0).all()
                same = ["adv_pred", "size", "lawful", "broken"]
                assert (stage[same][before["broken"]] == before[same][before["broken"]]).all(axis=None)
            before = stage
        whole = rows.loc[QUICK]
        assert (whole["broken"] == before["broken"]).all()
        stages = [rows.loc[f"{QUICK}/{name}"]["forwards"] for name in STAGES]
        assert (whole["forwards"] == sum(stages)).all()

    def test_the_first_stage_is_the_attack_alone(self):
        together, alone = _evaluated(QUICK).verdicts, _evaluated("apgd_ce(steps=8)").verdicts
        first = together[together["attack"] == f"{QUICK}/apgd_ce"].drop(columns="attack")
        assert first.equals(alone.drop(columns="attack"))

    def test_costs_are_counted_once(self):
        run = _evaluated(QUICK)
        whole = run.verdicts[run.verdicts["attack"] == QUICK]
        assert run.record.forwards == whole["forwards"].sum() == run.worst()["forwards"].item()
        assert run.record.seconds == pytest.approx(run.record.attack_seconds[QUICK])
        assert list(run.record.labels) == list(run.verdicts["attack"].unique())

    def test_the_same_bytes_for_any_batch_size(self):
        runs = [_evaluated(QUICK, batch_size=size).verdicts for size in (1, 5, 64)]
        order = ["attack", "eps", "index"]
        first, *others = (rows.sort_values(order, ignore_index=True) for rows in runs)
        assert all(first.equals(other) for other in others)

    def test_as_a_plain_function_it_breaks_the_same_images_or_more(self):
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 12)
        attack = AutoAttackCustom(steps=8, queries=30)
        x_adv = attack(model, x, y, subjects.budget("linf", 0.08, 12), subjects.keys(12))
        stages = _evaluated(QUICK).verdicts
        staged = stages[stages["attack"] == QUICK]["broken"].sum()
        assert int((model(x_adv).argmax(1) != y).sum()) == pytest.approx(staged, abs=1)


class TestTheName:
    def test_autoattack_has_the_published_parameters(self):
        standard = dict(AutoAttack().stages("linf"))
        assert list(standard) == STAGES
        assert (standard["apgd_ce"].steps, standard["apgd_ce"].restarts, standard["apgd_ce"].rho) == (100, 1, 0.75)
        assert (standard["apgd_t"].targets, standard["fab_t"].targets, standard["fab_t"].steps) == (9, 9, 100)
        assert (standard["square"].queries, standard["square"].p_init) == (5000, 0.8)
        assert list(dict(AutoAttack("plus").stages("l2"))) == [
            "apgd_ce",
            "apgd_dlr",
            "fab",
            "square",
            "apgd_t",
            "fab_t",
        ]
        assert [stage.eot_iter for _, stage in AutoAttack("rand").stages("linf")] == [20, 20]

    def test_it_takes_no_other_parameter(self):
        model = subjects.frozen(subjects.Centred())
        with pytest.raises(UserError, match=r"no field 'steps'.*autoattack-custom"):
            plan("autoattack(steps=10)", model, ThreatModel("linf", 0.1))
        with pytest.raises(UserError, match="version cannot be 'fast'"):
            plan("autoattack(version='fast')", model, ThreatModel("linf", 0.1))
        with pytest.raises(UserError, match="does not work in l1"):
            plan("autoattack", model, ThreatModel("l1", 1.0))

    @pytest.mark.parametrize(("classes", "names"), [(2, ["apgd_ce", "fab_t", "square"]), (3, [*STAGES])])
    def test_few_classes_are_another_ensemble(self, classes, names):
        model = subjects.linear((1, 6, 6), classes)
        with pytest.raises(UserError, match="needs 4 classes"):
            _evaluated("autoattack", model)
        run = _evaluated(QUICK, model)
        expected = ["apgd_dlr" if name == "apgd_t" else name for name in names]
        assert [stage.name for stage in run.record.attacks[0].stages] == expected


class TestMinimal:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_it_stands_for_minimal_attacks_that_know_the_norm(self, norm):
        planned = plan("minimal(steps=7)", subjects.frozen(subjects.Centred()), ThreatModel(norm, None))
        assert planned and all(one.attack.minimal and one.norm == norm for one in planned)
        assert all(one.fields["steps"] == 7 for one in planned)

    def test_fields_that_none_has_are_refused(self):
        with pytest.raises(UserError, match="no attack of 'minimal' has a field 'speed'"):
            plan("minimal(speed=7)", subjects.frozen(subjects.Centred()), ThreatModel("l2", None))


class TestLevels:
    def _verdicts(self, smallest: list[int], grid: int, order: eps_order.Order) -> tuple[list[list[bool]], int]:
        """What a monotone attack does that breaks image i from level smallest[i] on, and how many trials it took."""
        first = torch.tensor(smallest)[:, None]
        unsettled = torch.ones(len(smallest), grid, dtype=torch.bool)
        broken, trials = torch.zeros_like(unsettled), 0
        while unsettled.any():
            image, level = eps_order.upcoming(unsettled, order)
            trials += len(image)
            broken[image, level] = (level[:, None] >= first[image])[:, 0]
            unsettled[image, level] = False
            if order != "independent":
                at = torch.zeros(len(smallest), dtype=torch.int64)
                at[image] = level
                here = torch.zeros(len(smallest), dtype=torch.bool)
                here[image] = broken[image, level]
                above, below = eps_order.implied(unsettled, at, here, order)
                broken |= above
                unsettled &= ~(above | below)
        return broken.tolist(), trials

    def test_a_monotone_attack_gets_the_same_verdicts_in_every_order(self):
        smallest = list(range(14))
        seen = {order: self._verdicts(smallest, 12, order) for order in eps_order.ORDERS}
        assert seen["independent"][0] == seen["exact"][0] == seen["bisect"][0]
        assert seen["bisect"][1] <= 4 * len(smallest) < seen["exact"][1] < seen["independent"][1] == 12 * len(smallest)


def test_every_registered_ensemble_lists_known_attacks():
    for name in ("autoattack", "autoattack-custom"):
        for norm in attacks[name].norms:
            assert all(stage in attacks for stage, _ in attacks[name]().stages(norm))
    assert measures.WORST not in attacks


class TestSearchDtype:
    def test_what_bfloat16_finds_counts_only_in_float32(self):
        exact, rough = (_evaluated("pgd(steps=10)", search_dtype=dtype) for dtype in ("float32", "bf16"))
        assert (exact.record.search_dtype, rough.record.search_dtype) == ("float32", "bf16")
        assert rough.record.dtype == "float32" and rough.verdicts["lawful"].all()
        assert abs(int(exact.verdicts["broken"].sum()) - int(rough.verdicts["broken"].sum())) <= 2

    def test_minimal_attacks_search_in_float32_all_the_same(self):
        exact, rough = (_evaluated("ddn(steps=10)", search_dtype=dtype) for dtype in ("float32", "bf16"))
        assert exact.verdicts.equals(rough.verdicts)


class _Cramped(subjects.Centred):
    """Has no room for more than 16 images where a gradient is wanted."""

    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad and len(x) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def test_a_batch_that_does_not_fit_is_halved_and_nothing_changes():
    x, y = subjects.images(subjects.frozen(subjects.Centred()), 40)
    roomy, cramped = (
        bench.evaluate(subjects.frozen(kind()), x, y, attacks=QUICK, eps=0.08).verdicts
        for kind in (subjects.Centred, _Cramped)
    )
    assert roomy.equals(cramped)
