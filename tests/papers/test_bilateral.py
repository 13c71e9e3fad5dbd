"""Bilateral adversarial training's tables and page, from small runs whose every number is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.core import registry
from bench.core.types import Verdict
from bench.papers import publish, published
from bench.papers.bilateral import page as on_trial
from bench.papers.bilateral.systems import Kind, kind
from bench.report import model_runs
from bench.store import runs as store
from tests.support.stored_runs import entry, kept, record, rows

N, EPS = 40, 0.3
NUMBERS = published.load()
STEP = 0.075
ATTACKS: dict[str, dict[str, object]] = {
    "pgd": {"steps": 40, "step_size": None},
    "pgd(steps=20,step_size=0.075)": {"steps": 20, "step_size": STEP, "random_start": True, "restarts": 1},
    "pgd(steps=20)": {"steps": 20, "step_size": None},
    "pgd(steps=100,step_size=0.075)": {"steps": 100, "step_size": STEP},
    "pgd(steps=1000,step_size=0.075)": {"steps": 1000, "step_size": STEP},
    "margin(steps=100,step_size=0.075)": {"steps": 100, "step_size": STEP},
    "fgsm": {},
    "mim": {"steps": 10, "step_size": None},
    "cw_within": {"steps": 100, "lr": 0.1, "searches": 5},
    "cw_within(lr=0.01,steps=1000)": {"steps": 1000, "lr": 0.01, "searches": 5},
    "deepfool_within": {"steps": 50},
    "bilateral": {"steps": 40},
    "multi_margin": {"steps": 100},
    "autoattack": {},
    "cw(searches=5,steps=100,lr=0.1,c0=100)": {"searches": 5, "steps": 100, "lr": 0.1, "c0": 100.0},
    "cw": {"searches": 9, "steps": 1000, "lr": 0.01, "c0": 1e-3},
}
ADAPTIVE = ("margin", "bilateral", "multi_margin")


def run(
    model: str, told: Mapping[str, object] | None, broken: Mapping[str, int], *parts: list[Verdict], **known: object
) -> store.Run:
    """A run in which each attack breaks as many images as it says."""
    parts = (*(rows(spec, count) for spec, count in broken.items()), *parts)
    specs = [part[0].attack for part in parts]
    about: dict[str, Any] = {
        "model": model,
        "arch": "small_cnn",
        "defense": "bilateral" if told is not None else model.split("_")[0],
        "trained_with": {} if told is None else {"bilateral": dict(told)},
        "data_sha256": "1",
        "eps": EPS,
        "eps_written": "0.3",
        "attacks": tuple(entry(spec, **ATTACKS.get(spec, {})) for spec in specs),
        "adaptive": tuple(spec for spec in specs if spec.startswith(ADAPTIVE)),
    }
    return store.Run(store.frame([row for part in parts for row in part]), record(**about | known))


MC = {"target": "most_confusing", "random_start": True, "labels": "main", "beta": 9.0, "top": 0, "eps": "0.3"}
FULL = {
    "pgd": 8,
    "pgd(steps=20)": 5,
    "pgd(steps=20,step_size=0.075)": 9,
    "pgd(steps=100,step_size=0.075)": 10,
    "pgd(steps=1000,step_size=0.075)": 11,
    "margin(steps=100,step_size=0.075)": 12,
    "fgsm": 4,
    "mim": 6,
    "cw_within": 3,
    "cw_within(lr=0.01,steps=1000)": 7,
    "deepfool_within": 2,
    "multi_margin": 30,
}
SHORT = {"pgd": 20, "pgd(steps=20,step_size=0.075)": 18, "bilateral": 21}
UNBOUNDED = (rows("cw(searches=5,steps=100,lr=0.1,c0=100)", 39, None, "l2"), rows("deepfool", 38, None, "l2"))
OURS = run("bilateral_mnist_cnn", MC, FULL, rows("cw", 3, None, "l2"), *UNBOUNDED)
SUP = run("bilateral_mnist_cnn_sup", MC | {"labels": "sup"}, SHORT)
FEW = run("bilateral_mnist_cnn_500pc", MC, {"fgsm": 25, "pgd": 30})
PLAIN = run("bilateral_mnist_cnn_onehot", MC | {"labels": "one_hot"}, {"pgd": 30, "fgsm": 1})
RANDOM = run("bilateral_mnist_cnn_rand", MC | {"target": "random"}, {"pgd": 2, "fgsm": 2})
NINE = run("bilateral_cifar100_wrn_top9_plus", MC | {"top": 9, "eps": "8/255"}, SHORT, data="cifar100")
AT = run("madry_mnist_cnn", None, {"pgd": 12, "pgd(steps=20,step_size=0.075)": 13, "multi_margin": 16})
NATURAL = run("natural_mnist_cnn", None, {"pgd": 39})
ALL = (OURS, SUP, FEW, PLAIN, RANDOM, NINE, AT, NATURAL)


def table(name: str, *runs: store.Run) -> pd.DataFrame:
    made: pd.DataFrame = registry.tables[name](runs, NUMBERS)
    return made


def measured(name: str, *runs: store.Run) -> pd.DataFrame:
    shown = table(name, *runs)
    return shown[shown["model"].notna()].set_index("model")


@pytest.mark.parametrize(
    ("name", "count", "head"), [("bat/1", 2, 2), ("bat/2", 3, 3), ("bat/3", 5, 2), ("bat/5", 4, 3)]
)
def test_a_table_without_runs_holds_the_published_numbers(name: str, count: int, head: int) -> None:
    shown = table(name)
    printed = [column for column in shown if column.endswith("published")]
    assert len(shown) == count and shown[printed].drop(index=1 if name == "bat/1" else []).notna().all(axis=None)
    assert shown.drop(columns=[*printed, *shown.columns[:head]]).isna().all(axis=None)


def test_every_printed_number_is_in_a_table() -> None:
    for name, count in (("1", 13), ("2", 15), ("3", 25), ("4", 18), ("5", 20)):
        shown = table(f"bat/{name}")
        printed = [column for column in shown if column.endswith("published")]
        assert int(shown[printed].notna().sum().sum()) == count
    line = table("bat/1").set_index("defense").loc["R-MC-LA+ (eps 4/255)"]
    assert line[["ce1000_accuracy_published", "cw_1000_steps_accuracy_published"]].tolist() == [0.614, 0.882]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (OURS, Kind("MNIST", "R-MC-LA", "main", "all", "0.3")),
        (SUP, Kind("MNIST", "R-MC-LA", "sup", "all", "0.3")),
        (FEW, Kind("MNIST", "R-MC-LA", "main", "500", "0.3")),
        (PLAIN, Kind("MNIST", "R-MC", "-", "all", "0.3")),
        (RANDOM, Kind("MNIST", "R-RAND-LA", "main", "all", "0.3")),
        (NINE, Kind("CIFAR100", "R-MC-LA9+", "main", "500", "8/255")),
        (AT, Kind("MNIST", "AT", "-", "all")),
        (run("a_plus", MC | {"random_start": False}, SHORT), Kind("MNIST", "MC-LA+", "main", "all", "0.3")),
    ],
    ids=lambda part: part.defense if isinstance(part, Kind) else "",
)
def test_a_model_is_named_by_its_stanza_and_name(made: store.Run, expected: Kind) -> None:
    (named,) = (kind(dossier) for dossier in model_runs.dossiers([made]))
    assert named == expected


def test_names_say_what_departs_from_the_plainest_form() -> None:
    assert Kind("CIFAR10", "R-MC-LA+", "sup", "5000").name == "R-MC-LA+ (sup)"
    assert Kind("CIFAR10", "R-MC-LA", "main", "500", "8/255").name == "R-MC-LA (500 a class)"
    assert Kind("CIFAR10", "R-MC-LA+", "main", "5000", "4/255").name == "R-MC-LA+ (eps 4/255)"


def test_table_1_has_each_attack_and_the_unbounded_sizes() -> None:
    line = measured("bat/1", *ALL).loc["bilateral_mnist_cnn"]
    names = ("fgsm", "ce1000", "mim", "cw_100_steps", "cw_1000_steps", "deepfool", "worst")
    left = [39 - FULL[spec] for spec in ("fgsm", "pgd(steps=1000,step_size=0.075)", "mim", "cw_within")]
    left += [39 - 7, 39 - 2, 39 - 30]
    assert [round(line[f"{name}_accuracy"] * N) for name in names] == left
    assert line[["n", "cw_100_steps_n", "steps", "defense"]].tolist() == [
        40,
        40,
        "10/1000 of eps/4 or eps/5",
        "R-MC-LA",
    ]
    assert line["cw_l2_success_rate"] == 1 and line["cw_l2_steps"] == "5 × 100", (
        "C&W with other settings is not the paper's"
    )
    assert line["cw_l2_mean_size"] == pytest.approx(0.2) and line["deepfool_l2_mean_size_low"] < 0.195
    assert line["worst_accuracy_low"] < 9 / 40 < line["worst_accuracy_high"]


def test_tables_take_the_papers_step_and_end_in_the_worst() -> None:
    line = measured("bat/5", OURS).loc["bilateral_mnist_cnn"]
    names = ("fgsm", "ce20", "ce100", "cw100", "worst")
    assert [round(line[f"{name}_accuracy"] * N) for name in names] == [35, 30, 29, 27, 9]
    assert line[["clean_accuracy", "steps"]].tolist() == [39 / 40, "20/100 of eps/4"]


def test_rows_of_each_table() -> None:
    assert measured("bat/2", *ALL)["images_per_class"].to_dict() == {
        "bilateral_mnist_cnn": "all",
        "bilateral_mnist_cnn_500pc": "500",
    }
    three = measured("bat/3", *ALL)
    assert three["defense"].to_dict() == {
        "bilateral_cifar100_wrn_top9_plus": "R-MC-LA9+",
        "bilateral_mnist_cnn": "R-MC-LA",
        "madry_mnist_cnn": "AT",
    }
    assert three.loc["bilateral_cifar100_wrn_top9_plus", "ce20_accuracy_published"] == 0.267
    five = measured("bat/5", *ALL)
    assert five["labels"].to_dict() == {
        "bilateral_cifar100_wrn_top9_plus": "main",
        "bilateral_mnist_cnn": "main",
        "bilateral_mnist_cnn_sup": "sup",
        "bilateral_mnist_cnn_rand": "main",
        "bilateral_mnist_cnn_onehot": "-",
    }


def test_table_4_gives_squares_and_norms_for_pixels_up_to_255(tmp_path: Path) -> None:
    gradients = pd.DataFrame({"zero": [False] * 3, "l2": [255.0, 510.0, 0.0]})
    shown = table("bat/4", kept(NATURAL, tmp_path / "a", gradients=gradients), OURS)
    assert len(shown) == 10
    line = shown[shown["model"].notna()].iloc[0]
    assert line[["defense", "n", "max_squared", "max_norm", "mean_norm"]].tolist() == ["Natural", 3, 4.0, 2.0, 1.0]
    assert line["mean_squared"] == pytest.approx(5 / 3) and line["mean_norm_low"] < 1 < line["mean_norm_high"]
    svhn = shown[(shown["data"] == "SVHN") & (shown["defense"] == "R-MC-LA")].iloc[0]
    assert svhn[["max_published", "mean_published"]].tolist() == [3.4, 0.022]


def test_latex_states_n_eps_steps_and_limits(tmp_path: Path) -> None:
    publish.table("bat/5", [OURS], tmp_path)
    text = (tmp_path / "bat-5.tex").read_text()
    assert r"$\varepsilon$ = 0.3. n = 40. steps = 20/100 of eps/4." in text
    assert "22.5 (12--38)" in text and "\n\n" not in text


class TestPage:
    def test_says_what_was_not_run(self) -> None:
        text = on_trial.page([], NUMBERS)
        assert "| CIFAR10  | R-MC-LA+, eps 4/255, is more robust than TRADES" in text and "+5.00" in text
        assert "## Models on CIFAR100\n\nNot run." in text and "Nothing: not run." in text
        assert "-32.0 points" in text and "29.35" in text

    def test_says_what_survives_and_shows_the_gap(self) -> None:
        text = on_trial.page(ALL, NUMBERS)
        lines = {line.split("|")[2].strip(): line for line in text.splitlines() if line.startswith("| MNIST")}
        at = lines["R-MC-LA is more robust than adversarial training"]
        assert "+10.0" in at and "-35.0" in at and "**reversed**" in at
        assert "+55.0" in lines["adversarial labels raise robustness"]
        gap = next(
            line for line in text.splitlines() if line.startswith("| `bilateral_mnist_cnn` ") and "MNIST" in line
        )
        assert "-55.0 points" in gap and "not run" in gap
        model = next(line for line in text.splitlines() if "linf 0.3" in line and "`bilateral_mnist_cnn`" in line)
        assert "77.5" in model and "72.5" in model and "22.5" in model
        assert "- `bilateral_mnist_cnn_sup`, linf 0.3: `pgd` (40), `pgd(steps=20,step_size=0.075)` (40)" in text

    def test_judges_printed_accuracies_of_the_papers_data(self) -> None:
        made = run(
            "bilateral_wrn", MC | {"eps": "8/255"}, {"pgd": 18}, data="cifar10", eps=8 / 255, eps_written="8/255"
        )
        made.verdicts["eps"] = 8 / 255
        text = on_trial.page([made], NUMBERS)
        assert "bilateral_wrn under PGD" in text and "52.90" in text and "reproduced; worst not run" in text

    def test_baselines_stand_under_the_threats_that_the_papers_model_met(self) -> None:
        other = run("madry_mnist_cnn", None, {"pgd": 35}, eps=0.4, eps_written="0.4")
        other.verdicts["eps"] = 0.4
        text = on_trial.page([OURS, AT, other], NUMBERS)
        assert "linf 0.3" in text and "linf 0.4" not in text
