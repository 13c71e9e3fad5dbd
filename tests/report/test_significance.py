"""Limits and p-values against numbers worked out by hand and against SciPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.report import significance


def test_wilson_limits() -> None:
    # z = 1.959964: centre (0.5 + z²/20)/(1 + z²/10) and so on, by hand.
    assert significance.wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    assert significance.wilson(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    assert np.isnan(significance.wilson(0, 0)).all()


@pytest.mark.parametrize("n", [1, 2, 7, 40, 97, 360, 1000, 10_000])
def test_wilson_limits_are_scipy_s_to_the_bit(n: int) -> None:
    for count in {*range(0, n, max(1, n // 50)), n - 1, n}:
        limits = binomtest(count, n).proportion_ci(0.95, method="wilson")
        assert significance.wilson(count, n) == (limits.low, limits.high)


def test_mcnemar_s_exact_test() -> None:
    # Of three moves, all one way: 2 / 2³; two and two: certain.
    assert significance.mcnemar(3, 0) == significance.mcnemar(0, 3) == 0.25
    assert significance.mcnemar(2, 2) == significance.mcnemar(0, 0) == 1
    assert significance.paired(12, 3, 100).p_value == significance.mcnemar(12, 3) == pytest.approx(0.035156, abs=1e-6)


def test_what_reads_runs_does_not_import_scipy() -> None:
    code = (
        "import sys, bench.report.baseline, bench.report.audit, bench.report.measures, bench.report.model_runs\n"
        "from bench.report import significance\n"
        "significance.wilson(3, 7), significance.mean([1, 2])\n"
        "print('scipy.stats' in sys.modules or 'torch' in sys.modules)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"
