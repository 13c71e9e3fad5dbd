"""MAT's tables, figures and page, from small runs whose every number is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.core.types import CLEAN
from bench.papers import publish
from bench.papers.mat import figures, page
from tests.support.stored_runs import (
    BIBO,
    EPS,
    MAT,
    NUMBERS,
    SO_BIBO,
    TRADES,
    entry,
    kept,
    only,
    points,
    rows,
    run,
    sweep,
    table,
)

SO = run("m_so", "mat", rows("pgd", 10), rows("margin", 39), weights={"alpha": 1.0, "beta": 0.0})


PLAIN = run("m_plain", "mat", rows("pgd", 30), rows("margin", 39), weights={"alpha": 0.0, "beta": 0.0})


@pytest.mark.parametrize(("name", "count"), [("mat/1", 12), ("mat/2", 14), ("mat/3", 8), ("mat/4", 10), ("mat/5", 8)])
def test_a_table_without_runs_holds_the_published_numbers(name: str, count: int) -> None:
    shown = table(name)
    printed = [column for column in shown if column.endswith("published")]
    assert len(shown) == count and shown[printed].notna().all(axis=None)
    assert shown.drop(columns=[*printed, *shown.columns[:4]]).isna().all(axis=None)


def test_table_1_reads_the_match_rate_probe(tmp_path: Path) -> None:
    cells = [
        (CLEAN, "all", 10, 40, 38),
        (CLEAN, "all", 20, 40, 40),
        ("pgd", "all", 10, 40, 30),
        ("pgd", "broken", 10, 4, 1),
    ]
    probed = pd.DataFrame(cells, columns=["attack", "points", "clusters", "n", "matched"]).assign(classes=10)
    probed["match_rate"] = probed["matched"] / probed["n"]
    shown = table("mat/1", kept(TRADES, tmp_path / "a", match_rate=probed), SO_BIBO)
    mine = shown[shown["model"] == "m_trades"].set_index("attack")
    assert mine["match_rate"].tolist() == [38 / 40, 30 / 40] and mine["match_rate_published"].tolist() == [
        0.9967,
        0.9843,
    ]
    assert mine.loc["pgd", ["match_rate_broken", "broken_n"]].tolist() == [0.25, 4]
    assert mine.loc["pgd", ["eps", "attack_steps"]].tolist() == [EPS, "40"] and np.isnan(mine.loc[CLEAN, "eps"])
    assert mine.loc[CLEAN, "match_rate_20"] == 1 and mine.loc[CLEAN, "match_rate_low"] < 0.95


def test_table_2_has_sizes_over_successes_from_another_run_of_the_model() -> None:
    # C&W ran on half the images; image 0 is wrong when clean, so 19 of them can be broken.
    more = run("m_mat", "mat", rows("cw", 10, None, "l2", 20), rows("ddn", 39, None, "l2"), weights=MAT)
    attacks = entry("cw", "l2", minimal=True, steps=1000, searches=9), entry("ddn", "l2", minimal=True)
    more = replace(more, record=replace(more.record, attacks=attacks))
    line = only(table("mat/2", SO_BIBO, more))
    assert line[["data", "so", "bibo"]].tolist() == ["MNIST", "O", "O"]
    assert line[["clean_accuracy", "pgd_accuracy", "pgd_accuracy_published"]].tolist() == [39 / 40, 37 / 40, 0.9928]
    assert line[["cw_n", "cw_steps", "cw_mean_size_published"]].tolist() == [20, "9 × 1000", 2.063]
    assert line[["cw_mean_size", "cw_median_size"]].tolist() == pytest.approx([0.055, 0.055])
    assert line["cw_success_rate"] == 10 / 19 and line["ddn_success_rate"] == 1
    assert line["cw_mean_size_low"] < 0.055 < line["cw_mean_size_high"]


def test_pgd_has_the_steps_of_the_printed_numbers_where_they_were_run() -> None:
    attacks = (entry("pgd", steps=40, step_size=None), entry("pgd(step_size=0.01)", steps=40, step_size=0.01))
    both = run("m_trades", "trades", rows("pgd", 6), rows("pgd(step_size=0.01)", 4), attacks=attacks)
    assert only(table("mat/2", both))["pgd_accuracy"] == 35 / 40
    assert only(table("mat/2", TRADES))["pgd_accuracy"] == 35 / 40


def test_table_3_tells_targeted_from_untargeted_and_10_from_50_steps() -> None:
    specs = {"pgd(steps=10)": (10, False), "pgd(steps=10,targeted=True)": (10, True), "pgd(steps=50)": (50, False)}
    attacks = tuple(entry(spec, steps=steps, targeted=wanted) for spec, (steps, wanted) in specs.items())
    parts = [rows(spec, 5 * place, 8 / 255) for place, spec in enumerate(specs, 1)]
    about = {"data": "cifar10", "eps": 8 / 255, "eps_written": "8/255", "attacks": attacks}
    line = only(table("mat/3", run("c_mat", "mat", *parts, weights=MAT, **about), SO_BIBO, SO))
    accuracies = [line[f"pgd{mode}_accuracy"] for mode in ("10_untargeted", "10_targeted", "50_untargeted")]
    assert accuracies == [34 / 40, 29 / 40, 24 / 40] and np.isnan(line["pgd50_targeted_accuracy"])
    assert line[["eps", "pgd10_targeted_accuracy_published", "clean_accuracy_published"]].tolist() == [
        8 / 255,
        0.801,
        0.838,
    ]


def test_table_4_is_over_the_images_of_both() -> None:
    half = run("m_mat", "mat", rows("margin", 10, n=20), weights=MAT)
    plain = run("m_mat", "mat", rows("pgd", 2), weights=MAT)
    line = only(table("mat/4", plain, half))
    assert line[["n", "pgd_accuracy", "adaptive_accuracy"]].tolist() == [20, 17 / 20, 9 / 20]
    assert only(table("mat/4", SO_BIBO))["adaptive_accuracy"] == 15 / 40
    assert table("mat/4", SO_BIBO, BIBO, SO, PLAIN, TRADES)["model"].notna().sum() == 5


def test_table_5_reads_the_cosine_probe(tmp_path: Path) -> None:
    values = {CLEAN: [0.9, 1.0, 0.8, 0.9], "pgd": [0.5, 0.7, 0.8, 0.6]}
    probed = pd.concat(
        [
            pd.DataFrame({"attack": name, "cosine": cosine, "broken": [False, name == "pgd"] * 2})
            for name, cosine in values.items()
        ]
    )
    line = only(table("mat/5", kept(SO_BIBO, tmp_path / "a", cosine=probed)))
    assert line[["clean_cosine_mean", "pgd_cosine_mean"]].tolist() == pytest.approx([0.9, 0.65])
    assert line[["pgd_broken_n", "pgd_cosine_std_published"]].tolist() == [2, 0.055]
    assert line["pgd_broken_cosine_mean"] == pytest.approx(0.65) and line["clean_cosine_mean_low"] < 0.9


def test_latex_states_n_eps_steps_and_limits(tmp_path: Path) -> None:
    publish.table("mat/4", [SO_BIBO], tmp_path)
    text = (tmp_path / "mat-4.tex").read_text()
    assert r"$\varepsilon$ = 0.3. n = 40. PGD steps = 40. adaptive steps = 40." in text
    assert "m\\_mat & 92.5 (80--97) & 99.28 & 37.5 (24--53) & 92.66" in text
    assert "\n\n" not in text and "steps &" not in text


class TestPage:
    def test_says_what_was_not_run(self) -> None:
        text = page.page([], NUMBERS)
        assert "| MNIST   | SO raises robustness" in text and "**not run**" in text
        assert "## Models on CIFAR10\n\nNot run." in text and "Nothing: not run." in text

    def test_says_what_survives(self, tmp_path: Path) -> None:
        gradients = pd.DataFrame({"zero": [True, False], "feature_norm": [40.0, 44.0]})
        columns = ["temperature", "norm", "eps", "n", "robust", "robust_accuracy"]
        cells = [("1", "linf", EPS, 40, 36, 0.9), ("10", "linf", EPS, 40, 20, 0.5), ("10", "linf", 2 * EPS, 40, 0, 0.0)]
        rescaled = pd.DataFrame(cells, columns=columns)
        mine = kept(SO_BIBO, tmp_path / "a", gradients=gradients, rescaled=rescaled)
        text = page.page([mine, BIBO, SO, PLAIN, TRADES], NUMBERS)
        (line,) = (line for line in text.splitlines() if line.startswith("| MNIST   | SO raises"))
        assert "+50.0" in line and "+0.0" in line and "**does not survive**" in line
        (line,) = (line for line in text.splitlines() if line.startswith("| `m_mat`"))
        assert "99.28" in line and "50.0 %" in line and "90.0 → 50.0 (over 10, n = 40)" in line and "| 42 " in line
        assert (
            "m_mat under the paper's adaptive attack" in text
            and "- `m_so`, linf 0.3: `pgd` (40), `margin` (40)" in text
        )


class TestFigures:
    def test_nothing_to_draw_is_said(self, tmp_path: Path) -> None:
        assert "needs `bench probe RUN --probes embedding`" in publish.figure("mat/1", [SO_BIBO], tmp_path)
        assert "needs `bench sweep-eps`" in publish.figure("mat/2", [SO_BIBO], tmp_path)
        assert not list(tmp_path.iterdir())

    def test_an_embedding_is_drawn_a_model(self, tmp_path: Path) -> None:
        mine = kept(TRADES, tmp_path / "a", embedding=points())
        path = publish.figure("mat/1", [mine, SO_BIBO], tmp_path / "out")
        assert path == str(tmp_path / "out/mat-1-m_trades.png")
        with Image.open(path) as image:
            assert image.width > 1000 and np.asarray(image.convert("L")).std() > 5
        (drawn,) = figures.figure_1([mine]).values()
        assert [ax.get_title() for ax in drawn.axes] == ["coloured by true label", "coloured by prediction"]

    def test_all_defenses_over_eps(self) -> None:
        both = [sweep("m_mat", "mat", ("pgd", "margin"), weights=MAT), sweep("m_trades", "trades", ("pgd",))]
        (name,) = drawn = figures.figure_2([*both, SO_BIBO])
        axes = drawn[name].axes
        assert name == "mnist-linf" and [ax.get_title() for ax in axes] == ["PGD", "worst of margin, pgd"]
        assert [ax.get_legend_handles_labels()[1] for ax in axes] == [["TRADES", "MAT SO+BIBO"], ["MAT SO+BIBO"]]
        assert "units of 1/255" in axes[0].get_xlabel()
        twins = figures.figure_2([both[1], sweep("other", "trades", ("pgd",))])[name]
        assert twins.axes[0].get_legend_handles_labels()[1] == ["TRADES (m_trades)", "TRADES (other)"]
