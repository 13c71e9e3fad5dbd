"""Everything published from stored runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.types import UserError
from bench.papers import publish
from tests.support.stored_runs import BIBO, MAT, SO_BIBO, TRADES, kept, points, sweep


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_everything_is_published_twice_to_the_same_bytes(tmp_path: Path) -> None:
    made = [SO_BIBO, BIBO, TRADES, sweep("m_mat", "mat", ("pgd", "margin"), weights=MAT)]
    for place, run in enumerate(made):
        kept(run, tmp_path / "runs" / str(place), embedding=points())
    said = publish.everything([tmp_path / "runs"], tmp_path, views=True)
    first = contents(tmp_path)
    assert said.startswith("4 runs") and {"mat.md", "tables/mat-5.tex", "figures/mat-2-mnist-linf.png"} <= set(first)
    assert {"runs/0/table.csv", "runs/0/curve.png", "runs/3/curve.tex"} <= set(first)
    publish.everything([tmp_path / "runs"], tmp_path, views=True)
    assert contents(tmp_path) == first
    with pytest.raises(UserError, match="no runs under"):
        publish.load([tmp_path / "tables"])


def test_commands_find_runs_and_names(bench, tmp_path: Path) -> None:
    kept(SO_BIBO, tmp_path / "results/runs/a")
    kept(TRADES, tmp_path / "elsewhere/b", embedding=points())
    said = bench("table", "mat/4", "mat/2")
    assert said.code == 0 and Path("results/tables/mat-2.csv").exists() and "m_mat" in said.out
    assert bench("table", "all", "--runs", "results/runs", "elsewhere").code == 0
    assert "m_trades" in Path("results/tables/mat-4.csv").read_text()
    assert bench("figure", "mat/1", "--runs", "elsewhere").out.strip() == "results/figures/mat-1-m_trades.png"
    assert bench("page", "mat").code == 0 and Path("results/mat.md").exists()
    assert bench("page", "mat", "er", "--out", "pages").out.split() == ["pages/mat.md", "pages/er.md"]
    assert bench("publish", "--out", "all").code == 0 and Path("all/mat.md").exists()
    said = bench("figure", "mat/9")
    assert said.code == 2 and "unknown figure 'mat/9'" in said.err
    for kind in ("probes", "figures", "pages"):
        assert bench("list", kind).code == 0
