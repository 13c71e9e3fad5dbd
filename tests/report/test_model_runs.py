"""All runs of one model put together."""

from __future__ import annotations

import pytest

from bench.report import model_runs
from tests.support.stored_runs import EPS, MAT, SO_BIBO, TRADES, N, rows, run


class TestDossiers:
    def test_runs_of_a_model_are_one_and_sweeps_set_no_threat(self) -> None:
        sweep = run("m_mat", "mat", rows("pgd", 2, 0.1), eps=None, eps_grid=((0.1, "0.1"),), weights=MAT)
        found = model_runs.dossiers([sweep, TRADES, SO_BIBO])
        assert [(one.model, len(one.runs), one.threats) for one in found] == [
            ("m_mat", 2, [("linf", EPS)]),
            ("m_trades", 1, [("linf", EPS)]),
        ]

    def test_a_slow_attack_on_few_images_only_adds_what_it_broke(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_runs, "ENOUGH", 30)
        slow = run("m_mat", "mat", rows("hsj", 9, n=10), weights=MAT)
        weak = run("m_mat", "mat", rows("pgd", 2), weights=MAT)
        (one,) = model_runs.dossiers([weak, slow])
        worst = one.worst(("linf", EPS))
        assert worst is not None and len(worst.images) == N and int(worst.images["broken"].sum()) == 9
        monkeypatch.setattr(model_runs, "ENOUGH", 5)
        worst = one.worst(("linf", EPS))
        assert worst is not None and len(worst.images) == 10
