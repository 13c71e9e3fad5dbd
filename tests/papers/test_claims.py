"""Claims and their verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench.papers import claims, verdict_tables
from bench.papers.mat import page
from bench.papers.systems import System
from bench.report import significance
from bench.report.measures import Outcome
from bench.store import runs as store
from tests.support.stored_runs import BIBO, EPS, SO_BIBO, TRADES, rows, run


class TestVerdicts:
    @pytest.mark.parametrize(
        ("plain", "full", "verdict"),
        [
            ((30, 2), (30, 2), "survives"),
            ((90, 2), (20, 2), "survives in part, +18.0 points of +88.0 points"),
            ((30, 2), (8, 6), "does not survive"),
            ((30, 2), (2, 30), "does not survive, reversed"),
            ((3, 2), (3, 3), "not shown, by PGD either"),
            ((3, 2), (2, 30), "reversed"),
        ],
    )
    def test_of_gains(self, plain: tuple[int, int], full: tuple[int, int], verdict: str) -> None:
        assert claims.comparison_verdict(significance.paired(*plain, 100), significance.paired(*full, 100)) == verdict

    def test_without_runs(self) -> None:
        assert claims.comparison_verdict(None, significance.paired(1, 2, 10)) == claims.NOT_RUN
        assert claims.comparison_verdict(significance.paired(0, 0, 0), significance.paired(1, 2, 10)) == claims.NOT_RUN

    @pytest.mark.parametrize(
        ("robust", "worst", "verdict"),
        [
            (985, 980, "survives"),
            (985, 580, "reproduced, does not survive, -41.3 points"),
            (900, 880, "not reproduced, -9.3 points"),
            (985, None, "reproduced; worst not run"),
            (None, 985, "not run"),
        ],
    )
    def test_of_printed_accuracies(self, robust: int | None, worst: int | None, verdict: str) -> None:
        def outcome(count: int | None) -> Outcome | None:
            held = np.arange(1000) < (count or 0)
            images = pd.DataFrame({"right": True, "broken": ~held, "size": np.where(held, np.nan, 0.1)})
            return None if count is None else Outcome("pgd", "linf", EPS, images, 0, 0, 0.0)

        assert claims.level_verdict(0.9928, outcome(robust), outcome(worst)) == verdict

    def test_limits_of_a_paired_difference(self) -> None:
        gap = significance.paired(12, 3, 100)
        assert gap.value == pytest.approx(0.09) and gap.p_value == pytest.approx(0.0351563, abs=1e-6)
        # Bonett and Price (2012): (13 - 4) / 102 ± 1.96 sqrt((13 + 4) / 102 - (9 / 102)^2) / sqrt(102).
        assert (gap.low, gap.high) == pytest.approx((0.010881, 0.165590), abs=1e-5)
        assert significance.paired(0, 0, 10).p_value == 1 and not significance.paired(0, 0, 10).is_gain

    def test_limits_of_a_mean(self) -> None:
        assert significance.mean([1.0, 2.0, 3.0]) == pytest.approx((0.868414, 3.131586), abs=1e-5)
        assert np.isnan(significance.mean([1.0])[0])

    def test_models_of_other_architectures_are_not_compared(self) -> None:
        claim = claims.Claim("SO adds to BIBO", claims.side("MAT", "O", "O"), claims.side("MAT", "X", "O"))
        numbers = {System("MNIST", *claim.better): 0.9928, System("MNIST", *claim.other): 0.993}
        result = claims.compared(claim, "MNIST", page.models([SO_BIBO, BIBO]), numbers)
        assert (result.published, result.verdict) == ("-0.02", "does not survive")
        other = store.Run(BIBO.verdicts, replace(BIBO.record, arch="vgg"))
        assert claims.compared(claim, "MNIST", page.models([SO_BIBO, other]), numbers).verdict == claims.NOT_RUN

    def test_models_that_met_the_same_pgd_are_compared_before_others(self) -> None:
        claim = page.CLAIMS[0]
        other = run("m_public", "trades", rows("pgd(steps=100)", 4), rows("kl", 6))
        result = claims.compared(claim, "MNIST", page.models([SO_BIBO, other, TRADES]), {})
        assert result.models == "`m_mat`, `m_trades`, n = 40"

    def test_a_model_does_not_lose_for_having_been_attacked_more(self) -> None:
        more = run("m_bibo", "mat", rows("pgd(steps=1000)", 39), weights={"alpha": 0.0, "beta": 1.0})
        ours, theirs = page.models([SO_BIBO, BIBO, more])[::-1]
        if ours.dossier.model == "m_bibo":
            ours, theirs = theirs, ours
        assert theirs.worst is not None and int(theirs.worst.images["broken"].sum()) == 39
        left, right = ours.beside(theirs), theirs.beside(ours)
        # The margin attack that only one of them met is its own adaptive one, and counts.
        assert left is not None and int(left.images["broken"].sum()) == 24
        assert right is not None and int(right.images["broken"].sum()) == 24

    def test_in_short_names_what_was_tried(self) -> None:
        results = [
            claims.ClaimResult("MNIST", "A", "–", "", "", "survives in part, +1.0 points of +2.0 points"),
            claims.ClaimResult("MNIST", "B", "–", "", "", "does not survive, reversed"),
            claims.ClaimResult("MNIST", "C", "–", "", "", "does not survive"),
            claims.ClaimResult("CIFAR10", "A", "–", "", "", claims.NOT_RUN),
        ]
        assert verdict_tables.in_short(results) == (
            "- MNIST: **does not survive:** C. **does not survive, reversed:** B. **survives in part:** A.\n"
        )
        assert verdict_tables.in_short(results[-1:]) == ""
