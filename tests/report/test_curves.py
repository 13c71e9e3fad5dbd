"""Figures are files with something on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.types import Norm, Verdict
from bench.report import curves
from bench.store import runs
from tests.support.stored_runs import record


def rows(attack: str, norm: Norm, grid: list[float | None]) -> list[Verdict]:
    return [
        Verdict(i, 0, 0, attack, norm, eps, 1, eps or (i + 1) / 500, True, eps is None or i / 500 < eps, 1, 1)
        for eps in grid
        for i in range(20)
    ]


def run(rows: list[Verdict], **known: object) -> runs.Run:
    return runs.Run(runs.frame(rows), record(**{"data": "d", "split": "", **known}))


SWEEP = tuple((k / 255, f"{k}/255") for k in range(0, 9, 2))
GRID: list[float | None] = [float(eps) for eps, _ in SWEEP]  # type: ignore[arg-type]

RUNS = {
    "sweep": run(rows("pgd", "linf", GRID) + rows("fgsm", "linf", GRID), eps_grid=SWEEP),
    "one eps, two norms": run(
        rows("pgd", "linf", [8 / 255]) + rows("fmn", "linf", [None]) + rows("cw", "l2", [None]),
        eps=8 / 255,
        eps_written="8/255",
    ),
    "one attack": run(rows("pgd", "linf", [0.031]), eps=0.031, eps_written="0.031"),
    "minimal alone": run(rows("cw", "l2", [None]) + rows("ddn", "l2", [None]), norm="l2", eps=None),
    "nothing": run([]),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_figure_is_written_and_not_blank(tmp_path: Path, name: str) -> None:
    path = tmp_path / "curve.png"
    curves.write(RUNS[name], path)
    first = path.read_bytes()
    with Image.open(path) as image:
        assert image.width > 600 and np.asarray(image.convert("L")).std() > 5
    curves.write(RUNS[name], path)
    assert path.read_bytes() == first


def test_the_axis_has_the_units_that_eps_was_written_in() -> None:
    labels = {name: [ax.get_xlabel() for ax in curves.draw(sample).axes] for name, sample in RUNS.items()}
    assert labels["sweep"] == ["perturbation size ε in ℓ∞ (units of 1/255)"]
    assert labels["one attack"] == ["perturbation size ε in ℓ∞ (images in [0, 1])"]
    assert labels["one eps, two norms"][1] == "perturbation size ε in ℓ2 (images in [0, 1])"


def test_worst_is_drawn_only_where_there_are_several_attacks() -> None:
    assert "worst" in curves.draw(RUNS["sweep"]).axes[0].get_legend_handles_labels()[1]
    assert "worst" not in curves.draw(RUNS["one attack"]).axes[0].get_legend_handles_labels()[1]
