"""Hand-made verdicts with answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.core.types import NOT_FINITE, Norm, Verdict
from bench.report import measures
from bench.store import runs
from tests.support.stored_runs import entry, record

EPS = 0.25


def verdict(
    index: int, attack: str, size: float | None, eps: float | None = EPS, norm: Norm = "linf", right: bool = True
) -> Verdict:
    """An image of class 0 that the attack broke at `size`, or could not break (None)."""
    clean = 0 if right else 1
    adv = clean if size is None else 1
    broken = right and size is not None
    return Verdict(index, 0, clean, attack, norm, eps, adv, size or 0.0, True, broken, 10, 5)


def run(rows: list[Verdict], **known: object) -> runs.Run:
    full = {"data": "d", "eps": EPS, "eps_written": "1/4", **known}
    return runs.Run(runs.frame(rows), record(**full))


MIXED = run(
    [
        verdict(0, "pgd", 0.25),
        verdict(1, "pgd", None),
        verdict(2, "pgd", None),
        verdict(3, "pgd", None, right=False),
        verdict(0, "ddn", 0.125, None),
        verdict(1, "ddn", 0.5, None),
        verdict(2, "ddn", 0.0625, None),
        verdict(3, "ddn", None, None, right=False),
        verdict(0, "cw", 1.0, None, "l2"),
        verdict(1, "cw", 3.0, None, "l2"),
        verdict(2, "cw", None, None, "l2"),
        verdict(3, "cw", None, None, "l2", right=False),
    ],
    attacks=(entry("pgd"), entry("ddn", minimal=True), entry("cw", "l2", minimal=True)),
    attack_seconds={"pgd": 2.0, "ddn": 1.0},
)


def row(table: pd.DataFrame, attack: str, norm: str = "linf") -> pd.Series:
    (found,) = [line for _, line in table.iterrows() if line["attack"] == attack and line["norm"] == norm]
    return found


def test_summary_has_the_contract_s_columns_and_order() -> None:
    table = measures.summary(MIXED)
    assert ",".join(table.columns) == (
        "model,data,attack,norm,eps,n,clean_accuracy,robust_accuracy,ci_low,ci_high,"
        "success_rate,mean_size,median_size,forwards,backwards,seconds"
    )
    assert [*zip(table["attack"], table["norm"], strict=True)] == [
        ("pgd", "linf"),
        ("ddn", "linf"),
        ("worst", "linf"),
        ("cw", "l2"),
        ("worst", "l2"),
    ]


def test_a_budgeted_attack() -> None:
    pgd = row(measures.summary(MIXED), "pgd")
    assert (pgd["n"], pgd["clean_accuracy"], pgd["robust_accuracy"]) == (4, 0.75, 0.5)
    assert pgd["success_rate"] == pytest.approx(1 / 3)
    assert (pgd["eps"], pgd["mean_size"], pgd["median_size"]) == (0.25, 0.25, 0.25)
    assert (pgd["forwards"], pgd["backwards"], pgd["seconds"]) == (40, 20, 2.0)


def test_a_minimal_attack_is_thresholded_at_the_run_s_eps_but_sizes_are_over_all_it_broke() -> None:
    ddn = row(measures.summary(MIXED), "ddn")
    assert (ddn["eps"], ddn["robust_accuracy"]) == (0.25, 0.25)
    assert ddn["success_rate"] == pytest.approx(2 / 3)
    assert ddn["mean_size"] == pytest.approx((0.125 + 0.5 + 0.0625) / 3)
    assert ddn["median_size"] == 0.125


def test_a_minimal_attack_in_another_norm_counts_every_broken_image() -> None:
    cw = row(measures.summary(MIXED), "cw", "l2")
    assert np.isnan(cw["eps"])
    assert (cw["robust_accuracy"], cw["mean_size"], cw["median_size"], cw["seconds"]) == (0.25, 2.0, 2.0, 0.0)


def test_worst_takes_the_minimum_image_by_image() -> None:
    worst = row(measures.summary(MIXED), "worst")
    assert (worst["eps"], worst["robust_accuracy"], worst["success_rate"]) == (0.25, 0.25, pytest.approx(2 / 3))
    assert worst["mean_size"] == pytest.approx((0.125 + 0.5 + 0.0625) / 3)
    assert (worst["forwards"], worst["backwards"], worst["seconds"]) == (80, 40, 3.0)


def test_worst_leaves_out_images_that_an_attack_has_not_reached() -> None:
    rows = [verdict(0, "pgd", None), verdict(1, "pgd", None), verdict(0, "fgsm", 0.1)]
    worst = row(measures.summary(run(rows)), "worst")
    assert (worst["n"], worst["robust_accuracy"]) == (1, 0.0)


def test_a_run_without_eps_counts_every_broken_image() -> None:
    rows = [verdict(0, "ddn", 100.0, None), verdict(1, "ddn", None, None)]
    table = measures.summary(run(rows, eps=None, eps_written=""))
    assert table["eps"].isna().all()
    assert list(table["robust_accuracy"]) == [0.5, 0.5]


def test_a_sweep_has_a_worst_row_for_each_eps() -> None:
    rows = [verdict(0, "pgd", 0.1, 0.1), verdict(0, "pgd", 0.2, 0.2), verdict(0, "ddn", 0.05, None)]
    sweep = run(rows, eps=None, eps_grid=((0.01, "0.01"), (0.1, "0.1"), (0.2, "0.2")))
    table = measures.summary(sweep)
    assert [*zip(table["attack"], table["eps"], table["robust_accuracy"], strict=True)] == [
        ("ddn", 0.01, 1.0),
        ("ddn", 0.1, 0.0),
        ("ddn", 0.2, 0.0),
        ("pgd", 0.1, 0.0),
        ("pgd", 0.2, 0.0),
        ("worst", 0.01, 1.0),
        ("worst", 0.1, 0.0),
        ("worst", 0.2, 0.0),
    ]


def test_nothing_broken_leaves_the_sizes_empty() -> None:
    table = measures.summary(run([verdict(0, "pgd", None)]))
    assert table["mean_size"].isna().all() and table["median_size"].isna().all()
    assert list(table["success_rate"]) == [0.0, 0.0]


def test_nothing_right_has_no_success_rate() -> None:
    table = measures.summary(run([verdict(0, "pgd", None, right=False)]))
    assert table["success_rate"].isna().all() and list(table["robust_accuracy"]) == [0.0, 0.0]


def test_no_rows_make_an_empty_table() -> None:
    assert list(measures.summary(run([])).columns) == list(measures.SUMMARY)


def test_rows_that_met_nan_are_counted_and_never_broken() -> None:
    bad = Verdict(0, 0, 0, "pgd", "linf", EPS, NOT_FINITE, 0.1, True, True, 1, 1)
    flawed = run([bad, verdict(1, "pgd", None)])
    assert measures.flagged(flawed) == 1 and measures.flagged(MIXED) == 0
    assert row(measures.summary(flawed), "pgd")["robust_accuracy"] == 1.0


def test_within_allows_the_rounding_of_a_sum_and_no_more() -> None:
    assert measures.within(0.25 * (1 + 9e-7), 0.25) and not measures.within(0.25 * (1 + 2e-6), 0.25)
    assert measures.within(0.0, 0.0) and not measures.within(1e-12, 0.0)


def test_curve_of_a_minimal_attack() -> None:
    ddn = MIXED.verdicts[MIXED.verdicts["attack"] == "ddn"]
    assert list(measures.curve(ddn, [0, 0.0625, 0.3, 1])["robust_accuracy"]) == [0.75, 0.5, 0.25, 0.0]
    steps = measures.curve(ddn)
    assert list(steps.columns) == list(measures.CURVE)
    assert list(steps["eps"]) == [0.0, 0.0625, 0.125, 0.5]
    assert list(steps["robust_accuracy"]) == [0.75, 0.5, 0.25, 0.0]


def test_curve_of_a_budgeted_sweep() -> None:
    rows = [verdict(0, "pgd", None, 0.1), verdict(0, "pgd", 0.2, 0.2), verdict(1, "pgd", None, 0.1)]
    points = measures.curve(runs.frame([*rows, verdict(1, "pgd", None, 0.2)]))
    assert [*zip(points["eps"], points["n"], points["robust_accuracy"], strict=True)] == [(0.1, 2, 1.0), (0.2, 2, 0.5)]


def random_run(seed: int) -> runs.Run:
    random = np.random.default_rng(seed)
    right = random.random(30) < 0.8
    rows = []
    for attack, eps in (("pgd", EPS), ("fgsm", EPS), ("ddn", None)):
        for index in range(30):
            size = float(random.uniform(0, EPS if eps else 1)) if right[index] and random.random() < 0.5 else None
            rows.append(verdict(index, attack, size, eps, right=bool(right[index])))
    return run(rows)


@pytest.mark.parametrize("seed", range(5))
def test_summary_does_not_depend_on_the_order_of_rows(seed: int) -> None:
    sample = random_run(seed)
    shuffled = sample.verdicts.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(
        measures.summary(sample), measures.summary(runs.Run(shuffled, sample.record)), check_exact=True
    )


@pytest.mark.parametrize("seed", range(5))
def test_worst_is_no_better_than_any_attack(seed: int) -> None:
    table = measures.summary(random_run(seed))
    worst = row(table, "worst")
    assert (worst["robust_accuracy"] <= table["robust_accuracy"]).all()
    assert (worst["success_rate"] >= table["success_rate"]).all()
    assert (table["ci_low"] <= table["robust_accuracy"]).all() and (table["robust_accuracy"] <= table["ci_high"]).all()
