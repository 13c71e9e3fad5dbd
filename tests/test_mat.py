"""MAT's tables, figures and page, from small runs whose every number is known."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.core import registry
from bench.core.types import CLEAN, Norm, UserError, Verdict
from bench.papers import claims, publish, published
from bench.papers.mat import figures, page
from bench.papers.systems import System
from bench.report import model_runs, significance
from bench.report.measures import Outcome
from bench.store import probes as probed
from bench.store import runs as store

N, EPS = 40, 0.3
NUMBERS = published.load()
MAT = {"alpha": 1.0, "beta": 1.0}


def rows(attack: str, broken: int, eps: float | None = EPS, norm: Norm = "linf", n: int = N) -> list[Verdict]:
    """The first image is wrong when clean, the next `broken` are broken, at sizes that rise by 0.01."""
    return [
        Verdict(i, i % 10, (i + (i == 0)) % 10, attack, norm, eps, 0, 0.01 * i * hit, True, hit, 40, 40)
        for i in range(n)
        for hit in [0 < i <= broken]
    ]


def entry(spec: str, **fields: object) -> dict[str, object]:
    return {"spec": spec, "name": spec.partition("(")[0], "fields": fields}


def run(model: str, defense: str, *parts: list[Verdict], weights: object = None, **record: object) -> store.Run:
    specs = list(dict.fromkeys(part[0].attack for part in parts))
    about: dict[str, object] = {
        "schema_version": store.SCHEMA_VERSION,
        "model": model,
        "defense": defense,
        "data": "mnist",
        "split": "test",
        "norm": "linf",
        "eps": EPS,
        "eps_written": "0.3",
        "seed": 0,
        "indices": list(range(N)),
        "attacks": [entry(spec, steps=40) for spec in specs],
        "adaptive": [spec for spec in specs if spec in ("mat", "margin", "kl")],
        "trained_with": {"mat": weights} if weights else {},
    }
    return store.Run(store.frame([row for part in parts for row in part]), about | record)


def kept(made: store.Run, place: Path, **probes: pd.DataFrame) -> store.Run:
    """The same run, written to a folder with what probes found."""
    place.mkdir(parents=True)
    (place / "run.json").write_text(store.dump(made.record | {"finished": True}))
    text = made.verdicts.to_csv(index=False, lineterminator="\n")
    (place / "verdicts.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    for name, table in probes.items():
        probed.write(place, name, table, {})
    return store.load(place)


SO_BIBO = run("m_mat", "mat", rows("pgd", 2), rows("mat", 20), rows("margin", 24), weights=MAT)
BIBO = run("m_bibo", "mat", rows("pgd", 22), rows("mat", 24), weights={"alpha": 0.0, "beta": 1.0})
SO = run("m_so", "mat", rows("pgd", 10), rows("margin", 39), weights={"alpha": 1.0, "beta": 0.0})
PLAIN = run("m_plain", "mat", rows("pgd", 30), rows("margin", 39), weights={"alpha": 0.0, "beta": 0.0})
TRADES = run("m_trades", "trades", rows("pgd", 4), rows("kl", 6))


def table(name: str, *runs: store.Run) -> pd.DataFrame:
    made: pd.DataFrame = registry.tables[name](runs, NUMBERS)
    return made


def only(found: pd.DataFrame) -> pd.Series:
    found = found[found["model"].notna()]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize(("name", "count"), [("mat/1", 12), ("mat/2", 14), ("mat/3", 8), ("mat/4", 10), ("mat/5", 8)])
def test_a_table_without_runs_holds_the_published_numbers(name: str, count: int) -> None:
    found = table(name)
    printed = [column for column in found if column.endswith("published")]
    assert len(found) == count and found[printed].notna().all(axis=None)
    assert found.drop(columns=[*printed, *found.columns[:4]]).isna().all(axis=None)


def test_table_1_reads_the_match_rate_probe(tmp_path: Path) -> None:
    cells = [
        (CLEAN, "all", 10, 40, 38),
        (CLEAN, "all", 20, 40, 40),
        ("pgd", "all", 10, 40, 30),
        ("pgd", "broken", 10, 4, 1),
    ]
    found = pd.DataFrame(cells, columns=["attack", "points", "clusters", "n", "matched"]).assign(classes=10)
    found["match_rate"] = found["matched"] / found["n"]
    shown = table("mat/1", kept(TRADES, tmp_path / "a", match_rate=found), SO_BIBO)
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
    more.record["attacks"][0]["fields"] = {"steps": 1000, "searches": 9}
    line = only(table("mat/2", SO_BIBO, more))
    assert line[["data", "so", "bibo"]].tolist() == ["MNIST", "O", "O"]
    assert line[["clean_accuracy", "pgd_accuracy", "pgd_accuracy_published"]].tolist() == [39 / 40, 37 / 40, 0.9928]
    assert line[["cw_n", "cw_steps", "cw_mean_size_published"]].tolist() == [20, "9 × 1000", 2.063]
    assert line[["cw_mean_size", "cw_median_size"]].tolist() == pytest.approx([0.055, 0.055])
    assert line["cw_success_rate"] == 10 / 19 and line["ddn_success_rate"] == 1
    assert line["cw_mean_size_low"] < 0.055 < line["cw_mean_size_high"]


def test_pgd_has_the_steps_of_the_printed_numbers_where_they_were_run() -> None:
    attacks = [entry("pgd", steps=40, step_size=None), entry("pgd(step_size=0.01)", steps=40, step_size=0.01)]
    both = run("m_trades", "trades", rows("pgd", 6), rows("pgd(step_size=0.01)", 4), attacks=attacks)
    assert only(table("mat/2", both))["pgd_accuracy"] == 35 / 40
    assert only(table("mat/2", TRADES))["pgd_accuracy"] == 35 / 40


def test_table_3_tells_targeted_from_untargeted_and_10_from_50_steps() -> None:
    specs = {"pgd(steps=10)": (10, False), "pgd(steps=10,targeted=True)": (10, True), "pgd(steps=50)": (50, False)}
    attacks = [entry(spec, steps=steps, targeted=wanted) for spec, (steps, wanted) in specs.items()]
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
    found = pd.concat(
        [
            pd.DataFrame({"attack": name, "cosine": cosine, "broken": [False, name == "pgd"] * 2})
            for name, cosine in values.items()
        ]
    )
    line = only(table("mat/5", kept(SO_BIBO, tmp_path / "a", cosine=found)))
    assert line[["clean_cosine_mean", "pgd_cosine_mean"]].tolist() == pytest.approx([0.9, 0.65])
    assert line[["pgd_broken_n", "pgd_cosine_std_published"]].tolist() == [2, 0.055]
    assert line["pgd_broken_cosine_mean"] == pytest.approx(0.65) and line["clean_cosine_mean_low"] < 0.9


def test_captions_state_n_eps_steps_and_limits(tmp_path: Path) -> None:
    publish.table("mat/4", [SO_BIBO], tmp_path)
    text = (tmp_path / "mat-4.tex").read_text()
    said = r"m\_mat (MNIST, $\varepsilon$ = 0.3, n = 40, PGD steps = 40, adaptive steps = 40) PGD 80.14–97.42 \%"
    assert said in text and "adaptive 24.22–52.97" in text
    assert "\n\n" not in text and "steps &" not in text


class TestDossiers:
    def test_runs_of_a_model_are_one_and_sweeps_set_no_threat(self) -> None:
        sweep = run("m_mat", "mat", rows("pgd", 2, 0.1), eps=None, eps_grid=[[0.1, "0.1"]], weights=MAT)
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
        found = significance.paired(12, 3, 100)
        assert found.value == pytest.approx(0.09) and found.p_value == pytest.approx(0.0351563, abs=1e-6)
        # Bonett and Price (2012): (13 - 4) / 102 ± 1.96 sqrt((13 + 4) / 102 - (9 / 102)^2) / sqrt(102).
        assert (found.low, found.high) == pytest.approx((0.010881, 0.165590), abs=1e-5)
        assert significance.paired(0, 0, 10).p_value == 1 and not significance.paired(0, 0, 10).is_gain

    def test_limits_of_a_mean(self) -> None:
        assert significance.mean([1.0, 2.0, 3.0]) == pytest.approx((0.868414, 3.131586), abs=1e-5)
        assert np.isnan(significance.mean([1.0])[0])

    def test_models_of_other_architectures_are_not_compared(self) -> None:
        claim = claims.Claim("SO adds to BIBO", ("MAT", "O", "O"), ("MAT", "X", "O"))
        numbers = {System("MNIST", *claim.better): 0.9928, System("MNIST", *claim.other): 0.993}
        shown = claims.exhibits(model_runs.dossiers([SO_BIBO, BIBO]))
        found = claims.compared(claim, "MNIST", shown, numbers)
        assert (found.published, found.verdict) == ("-0.02", "does not survive")
        other = store.Run(BIBO.verdicts, BIBO.record | {"arch": "vgg"})
        shown = claims.exhibits(model_runs.dossiers([SO_BIBO, other]))
        assert claims.compared(claim, "MNIST", shown, numbers).verdict == claims.NOT_RUN

    def test_models_that_met_the_same_pgd_are_compared_before_others(self) -> None:
        claim = claims.Claim("MAT is more robust than TRADES", ("MAT", "O", "O"), ("TRADES", "-", "O"))
        other = run("m_public", "trades", rows("pgd(steps=100)", 4), rows("kl", 6))
        found = claims.compared(claim, "MNIST", claims.exhibits(model_runs.dossiers([SO_BIBO, other, TRADES])), {})
        assert found.models == "`m_mat`, `m_trades`, n = 40"

    def test_a_model_does_not_lose_for_having_been_attacked_more(self) -> None:
        more = run("m_bibo", "mat", rows("pgd(steps=1000)", 39), weights={"alpha": 0.0, "beta": 1.0})
        ours, theirs = claims.exhibits(model_runs.dossiers([SO_BIBO, BIBO, more]))[::-1]
        if ours.dossier.model == "m_bibo":
            ours, theirs = theirs, ours
        assert theirs.worst is not None and int(theirs.worst.images["broken"].sum()) == 39
        left, right = ours.beside(theirs), theirs.beside(ours)
        # The margin attack that only one of them met is its own adaptive one, and counts.
        assert left is not None and int(left.images["broken"].sum()) == 24
        assert right is not None and int(right.images["broken"].sum()) == 24

    def test_in_short_names_what_was_tried(self) -> None:
        found = [
            claims.Finding("MNIST", "A", "–", "", "", "survives in part, +1.0 points of +2.0 points"),
            claims.Finding("MNIST", "B", "–", "", "", "does not survive, reversed"),
            claims.Finding("MNIST", "C", "–", "", "", "does not survive"),
            claims.Finding("CIFAR10", "A", "–", "", "", claims.NOT_RUN),
        ]
        assert claims.in_short(found) == (
            "- MNIST: **does not survive:** C. **does not survive, reversed:** B. **survives in part:** A.\n"
        )
        assert claims.in_short(found[-1:]) == ""


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


def points(count: int = 12) -> pd.DataFrame:
    place = np.arange(count)
    return pd.DataFrame(
        {
            "attack": [CLEAN] * (count - 3) + ["pgd"] * 3,
            "label": place % 10,
            "prediction": (place + 1) % 10,
            "x": place * 1.0,
            "y": -(place**2.0),
        }
    )


def sweep(model: str, defense: str, attacks: tuple[str, ...], **record: object) -> store.Run:
    grid = [[k / 255, f"{k}/255"] for k in (0, 4, 8)]
    parts = [rows(attack, 4 * place, eps) for attack in attacks for place, (eps, _) in enumerate(grid)]  # type: ignore[arg-type]
    return run(model, defense, *parts, eps=None, eps_grid=grid, **record)


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
        (name,) = found = figures.figure_2([*both, SO_BIBO])
        axes = found[name].axes
        assert name == "mnist-linf" and [ax.get_title() for ax in axes] == ["PGD", "worst of margin, pgd"]
        assert [ax.get_legend_handles_labels()[1] for ax in axes] == [["TRADES", "MAT SO+BIBO"], ["MAT SO+BIBO"]]
        assert "units of 1/255" in axes[0].get_xlabel()
        twins = figures.figure_2([both[1], sweep("other", "trades", ("pgd",))])[name]
        assert twins.axes[0].get_legend_handles_labels()[1] == ["TRADES (m_trades)", "TRADES (other)"]


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_everything_is_published_twice_to_the_same_bytes(tmp_path: Path) -> None:
    made = [SO_BIBO, BIBO, TRADES, sweep("m_mat", "mat", ("pgd", "margin"), weights=MAT)]
    for place, one in enumerate(made):
        kept(one, tmp_path / "runs" / str(place), embedding=points())
    said = publish.everything([tmp_path / "runs"], tmp_path)
    first = contents(tmp_path)
    assert said.startswith("4 runs") and {"mat.md", "tables/mat-5.tex", "figures/mat-2-mnist-linf.png"} <= set(first)
    assert {"runs/0/table.csv", "runs/0/curve.png", "runs/3/curve.tex"} <= set(first)
    publish.everything([tmp_path / "runs"], tmp_path)
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
