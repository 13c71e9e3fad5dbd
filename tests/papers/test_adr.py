"""ADR's tables, figures and page, from small runs whose every number is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.core import registry
from bench.core.types import CLEAN
from bench.papers import publish
from bench.papers.adr import figures, page, systems
from bench.store import runs as store
from bench.store.record import ModelRecord
from tests.support.stored_runs import NUMBERS, entry, kept, only, rows, run

OFF = {"base": "adv", "lc": 0.0, "gb": 0.0, "smt": 0.0, "conf": 0.0}
FULL = OFF | {"lc": 1.0, "gb": 1.0, "smt": 1.0}


def model(name: str, weights: dict[str, object], *attacks: tuple[str, int], cut: str = "conv", **more: object):
    """A run of attacks, each with how many images it breaks; 100 steps but where the name says otherwise."""
    parts = [rows(spec, broken) for spec, broken in attacks]
    entries = tuple(entry(spec, steps=40 if "steps=40" in spec else 100) for spec, _ in attacks)
    about = {
        "trained_with": {"adr": weights},
        "arch": "small_cnn",
        "args": {"cut": cut},
        "attacks": entries,
        "adaptive": [spec for spec, _ in attacks if spec in ("adr", "margin")],
        "data_sha256": "d",
        "weights_sha256": name,
    }
    return run(name, "adr", *parts, **about | more)


BOTH = (("pgd", 4), ("multi_targeted", 6))
SIX = (*BOTH, ("bim", 5), ("bim_multi_targeted", 7), ("mim", 3), ("mim_multi_targeted", 5))
ADV = model("m_adv", OFF, *((name, broken + 14) for name, broken in SIX), ("margin", 30))
ADR = model("m_adr", FULL, *SIX, ("adr", 20), ("margin", 30))
CONV2 = model("m_conv2", FULL, *BOTH, cut="conv2")


def table(name: str, *runs: store.Run) -> pd.DataFrame:
    made: pd.DataFrame = registry.tables[name](runs, NUMBERS)
    return made


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (OFF, "ADV"),
        (FULL, "ADR-ADV"),
        (FULL | {"conf": 1.0}, "ADR-ADV"),
        (OFF | {"lc": 1.0}, "ADR+LC"),
        (OFF | {"lc": 1.0, "gb": 1.0}, "ADR+LC/GB"),
        (FULL | {"base": "trades"}, "ADR-TRADES"),
        (OFF | {"base": "trades"}, "TRADES"),
        (OFF | {"base": "trades", "smt": 1.0}, "ADR-TRADES+SMT"),
    ],
)
def test_systems_are_named_by_their_weights(weights: dict[str, object], name: str) -> None:
    assert systems.system(ModelRecord(model="m", trained_with={"adr": weights})) == name
    assert systems.system(ModelRecord(model="m", trained_with={"kl": {"beta": 1.0}})) is None


@pytest.mark.parametrize(
    ("arch", "args", "cut", "default"),
    [
        ("small_cnn", {"cut": "conv"}, "conv", True),
        ("carlini_wagner", {"cut": "conv4"}, "conv", True),
        ("carlini_wagner", {"cut": "penultimate"}, "fc2", False),
        ("small_cnn", {"cut": "conv2"}, "conv2", False),
        ("madry_resnet", {}, "penultimate", True),
        ("digits_cnn", {"cut": "conv"}, "conv", True),
    ],
)
def test_cuts_are_named_as_the_table_does(arch: str, args: dict[str, str], cut: str, default: bool) -> None:
    record = ModelRecord(model="m", arch=arch, args=args)
    assert (systems.cut(record), systems.is_default(record)) == (cut, default)


@pytest.mark.parametrize(("name", "count"), [("adr/3", 10), ("adr/4", 12)])
def test_a_table_without_runs_holds_the_published_numbers(name: str, count: int) -> None:
    shown = table(name)
    printed = [column for column in shown if column.endswith("published")]
    assert len(printed) == 3 and len(shown) == count and shown[printed].notna().all(axis=None)
    keys = 2 if name == "adr/3" else 3
    assert shown.drop(columns=[*printed, *shown.columns[:keys]]).isna().all(axis=None)


def test_table_3_is_of_adr_by_cut() -> None:
    shown = table("adr/3", ADV, ADR, CONV2)
    assert shown["cut"].tolist()[:5] == list(systems.CUTS)
    mine = shown[shown["model"].notna()].set_index("cut")
    assert mine["model"].to_dict() == {"conv2": "m_conv2", "conv": "m_adr"}
    assert mine.loc["conv2", "multiple_targeted_accuracy_published"] == 0.9278
    line = mine.loc["conv"]
    assert line[["n", "clean_accuracy", "clean_accuracy_published"]].tolist() == [40, 39 / 40, 0.9948]
    assert line[["non_targeted_accuracy", "multiple_targeted_accuracy"]].tolist() == [35 / 40, 33 / 40]
    assert line[["non_targeted_steps", "non_targeted_accuracy_published"]].tolist() == ["100", 0.9506]


def test_table_4_has_three_attacks_in_two_forms() -> None:
    shown = table("adr/4", ADV, ADR, CONV2)
    mine = shown[shown["model"].notna()].set_index(["attack", "defense"])
    assert list(mine.index) == [(attack, who) for attack in ("PGD", "BIM", "MIM") for who in ("ADV", "ADR-ADV")]
    columns = ["non_targeted_accuracy", "multiple_targeted_accuracy"]
    assert mine.loc[("BIM", "ADR-ADV"), columns].tolist() == [34 / 40, 32 / 40]
    printed = [f"{name}_published" for name in columns]
    assert mine.loc[("MIM", "ADV"), printed].tolist() == [0.9405, 0.9263]


def test_both_forms_are_over_the_images_of_both_and_100_steps_come_first() -> None:
    half = model("m_adr", FULL, ("pgd(steps=40)", 30), ("pgd", 4), ("multi_targeted", 6))
    some = (half.verdicts["attack"] != "multi_targeted") | (half.verdicts["index"] < 20)
    line = only(table("adr/3", replace(half, verdicts=half.verdicts[some])))
    assert line[["n", "non_targeted_accuracy", "multiple_targeted_accuracy"]].tolist() == [20, 15 / 20, 13 / 20]
    alone = only(table("adr/3", model("m_adr", FULL, ("multi_targeted", 6))))
    assert np.isnan(alone["non_targeted_accuracy"]) and alone["multiple_targeted_accuracy"] == 33 / 40


def test_other_nets_and_data_stand_beside_the_printed_rows() -> None:
    resnet = model("m_res", FULL, *BOTH, arch="madry_resnet", args={}, data="cifar10")
    digits = model("m_dig", FULL, *BOTH, arch="digits_cnn", data="digits")
    mine = table("adr/4", resnet, digits).dropna(subset=["model"])
    assert set(mine["data"]) == {"CIFAR-10, madry_resnet", "digits"}
    assert mine["non_targeted_accuracy_published"].isna().all()
    cifar = only(table("adr/4", model("m_cnn", FULL, *BOTH, data="cifar10")))
    assert (cifar["data"], cifar["clean_accuracy_published"]) == ("CIFAR-10", 0.6916)


def test_latex_states_n_eps_steps_and_limits(tmp_path: Path) -> None:
    publish.table("adr/4", [ADR], tmp_path)
    text = (tmp_path / "adr-4.tex").read_text()
    said = r"$\varepsilon$ = 0.3. n = 40. non targeted steps = 100. multiple targeted steps = 100."
    assert said in text and "m\\_adr & 97.50 & 99.48 & 87.5 (74--95) & 95.06" in text


def surface(*examples: str) -> pd.DataFrame:
    ticks = np.linspace(-0.3, 0.3, 5)
    return pd.DataFrame(
        [
            (example, space, 7, 3, 0.3, a, b, 1 + a + b * b, 3 + (a > 0.1))
            for example in examples
            for space in ("input", "latent")
            for a in ticks
            for b in ticks
        ],
        columns=["example", "space", "index", "label", "eps", "along", "across", "loss", "prediction"],
    )


def points(count: int = 12) -> pd.DataFrame:
    place = np.arange(count)
    return pd.DataFrame(
        {
            "attack": [CLEAN] * (count - 3) + ["pgd"] * 3,
            "label": place % 10,
            "prediction": (place + 1) % 10,
            "entropy": place / count,
            "x": place * 1.0,
            "y": -(place**2.0),
        }
    )


class TestFigures:
    def test_nothing_to_draw_is_said(self, tmp_path: Path) -> None:
        for number, probe in enumerate(("surface", "surface", "embedding", "embedding"), 1):
            said = publish.figure(f"adr/{number}", [ADR], tmp_path)
            assert f"needs `bench probe RUN --probes {probe}`" in said
        assert not list(tmp_path.iterdir())

    def test_surfaces_share_a_figure_by_data(self, tmp_path: Path) -> None:
        both = [
            kept(ADR, tmp_path / "a", surface=surface("fooled")),
            kept(ADV, tmp_path / "b", surface=surface("fooled", "unfooled")),
        ]
        (drawn,) = figures.figure_1(both).values()
        titles = [ax.get_title() for ax in drawn.axes]
        assert titles[0] == "ADV, over the input" and titles[6] == "ADR-ADV, over the latent layer"
        assert titles[1] == "image 7, class 3" and len(titles) == 8
        (alone,) = figures.figure_2(both).values()
        assert len(alone.axes) == 4
        path = publish.figure("adr/1", both, tmp_path / "out")
        assert path == str(tmp_path / "out/adr-1-mnist.png")
        with Image.open(path) as image:
            assert image.width > 1000 and np.asarray(image.convert("L")).std() > 5

    def test_embeddings_are_a_panel_a_model(self, tmp_path: Path) -> None:
        both = [kept(CONV2, tmp_path / "a", embedding=points()), kept(ADV, tmp_path / "b", embedding=points())]
        (drawn,) = figures.figure_3(both).values()
        titles = [ax.get_title() for ax in drawn.axes]
        assert titles == ["ADV: 9 clean, 3 broken", "ADR-ADV, cut conv2: 9 clean, 3 broken"]
        (entropy,) = figures.figure_4(both).values()
        assert len(entropy.axes) == 3 and "entropy" in entropy.axes[2].get_ylabel()
        assert publish.figure("adr/4", both, tmp_path / "out").endswith("adr-4-mnist.png")


class TestPage:
    def test_says_what_was_not_run(self) -> None:
        text = page.page([], NUMBERS)
        assert "| MNIST    | ADR-ADV is more robust than ADV" in text and "**not run**" in text
        assert "## Models on CIFAR-10\n\nNot run." in text and "Nothing: not run." in text

    def test_says_what_survives(self, tmp_path: Path) -> None:
        mine = kept(ADR, tmp_path / "a", embedding=points())
        madry = run("m_at", "madry", rows("pgd", 2), arch="small_cnn", data_sha256="d")
        natural = run("other", "natural", rows("pgd", 39), arch="vgg", data_sha256="d")
        text = page.page([mine, ADV, CONV2, madry, natural], NUMBERS)
        gains = [line for line in text.splitlines() if line.startswith("| MNIST    | ADR-ADV is more robust than ADV")]
        assert len(gains) == 2 and all("+35.0" in line and "+0.0" in line for line in gains)
        assert "+1.93" in gains[0] and "+2.17" in gains[1] and "**does not survive**" in gains[0]
        (line,) = (line for line in text.splitlines() if line.startswith("| `m_adr`"))
        assert "| ADR-ADV" in line and "47.5 (" in line and "22.5 (" in line and "0.333" in line
        assert "| `m_conv2`" in text and "| `m_at`" in text and "`other`" not in text
        (level,) = (line for line in text.splitlines() if "`m_adr` (ADR-ADV) under multiple-targeted PGD" in line)
        assert "94.26" in level and "m_conv2` (ADR-ADV) under" not in text
        assert "- `m_adr`, linf 0.3: `pgd` (40)" in text

    def test_a_gain_is_under_as_many_steps_on_both_sides(self) -> None:
        mine = model("m_adr", FULL, ("pgd", 20), ("pgd(steps=40)", 4))
        madry = run("m_at", "madry", rows("pgd", 9), arch="small_cnn", data_sha256="d")
        text = page.page([mine, madry], NUMBERS)
        (line,) = (
            line for line in text.splitlines() if "| MNIST    | ADR-ADV is more robust than adv" in line and "+" in line
        )
        assert "+12.5" in line
