"""The ER-Classifier's tables, figures and page, from small runs whose every number is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.core import registry
from bench.core.types import CLEAN
from bench.papers import publish, published
from bench.papers.captions import captions
from bench.papers.er import page, systems
from bench.store import detections
from bench.store import runs as store
from bench.store.record import ModelRecord, ThreatRecord
from tests.support.stored_runs import detection_record, entry, kept, rows, run, sweep

NUMBERS = published.load()
KINDS = {
    "er": {"weight": 0.1, "prior": "gaussian", "minmax": False},
    "er_minmax": {"weight": 0.1, "prior": "gaussian", "minmax": True},
    "ecla": {"weight": 0.0, "prior": "gaussian", "minmax": False},
    "ecla_minmax": {"weight": 0.0, "prior": "gaussian", "minmax": True},
}
ATTACKS = ("fgsm", "pgd", "cw", "cw(confidence=9)")
THREAT = ThreatRecord(norm="linf", eps=0.3)


def classifier(name: str, *parts: list[object], **record: object) -> store.Run:
    trained = {"er": KINDS[name]} if name in KINDS else {}
    defense = "er" if name in KINDS else "madry"
    made = run(f"m_{name}", defense, *parts, arch="er_mnist", **record)
    return replace(made, record=replace(made.record, trained_with=trained, trained_for=THREAT))


def detection(place: Path, name: str, encoder: str = "", caught: int = 8) -> detections.Detection:
    """Ten right test images, all broken by every attack, of which `caught` score above every clean image."""
    cells = []
    for fit_attack in ("fgsm", "pgd", "cw"):
        about = {"fit_attack": fit_attack, "label": 0, "clean_pred": 0, "norm": "linf", "eps": 0.3, "size": 0.3}
        for part, index in [("calibration", 100 + i) for i in range(20)] + [("test", i) for i in range(10)]:
            score = {"score": -1 - index % 10 / 10, "adv_pred": 0, "broken": False, "lawful": True}
            cells.append(about | score | {"part": part, "attack": CLEAN, "index": index})
        for attack in (*ATTACKS, "joint"):
            for index in range(10):
                score = 1.0 if index < caught and attack != "joint" else -5.0
                more = {"part": "test", "attack": attack, "index": index, "adv_pred": 1, "broken": True, "lawful": True}
                cells.append(about | more | {"score": score})
    trained = {"trained_with": {"er": KINDS[encoder]} if encoder else {}, "model": f"m_{encoder}"}
    attacks = tuple(entry(spec, confidence=9.0 if "9" in spec else 0.0) for spec in ATTACKS)
    threat = replace(THREAT, eps_written="0.3")
    record = detection_record(name, threat, trained, model="target", indices=tuple(range(50)), attacks=attacks)
    return detections.write(place, record, pd.DataFrame(cells))


def table(name: str, *runs: store.Run) -> pd.DataFrame:
    made: pd.DataFrame = registry.tables[name](runs, NUMBERS)
    return made


@pytest.mark.parametrize(("name", "count"), [("er/2", 4), ("er/3", 8), ("er/4", 8), ("er/5", 8), ("er/6", 24)])
def test_a_table_without_runs_holds_the_published_numbers(name: str, count: int) -> None:
    shown = table(name)
    printed = [column for column in shown if column.endswith("published")]
    assert len(shown) == count and shown[printed].notna().all(axis=None) and shown["model"].isna().all()


def test_table_2_reads_the_probe_that_saw_most(tmp_path: Path) -> None:
    def probed(n: int, value: float) -> pd.DataFrame:
        row = {"points": "pixels", "size": 784, "n": n, "k1": 6, "k2": 12, "low": value - 1, "high": value + 1}
        return pd.DataFrame([row | {"dimension": value, "dimension_k1": value * 1.1}])

    few = kept(classifier("er", rows("pgd", 2)), tmp_path / "a", intrinsic_dimension=probed(100, 11.0))
    most = kept(classifier("ecla", rows("pgd", 2)), tmp_path / "b", intrinsic_dimension=probed(1000, 12.5))
    shown = table("er/2", few, most).set_index("data").loc["MNIST"]
    assert shown[["model", "n", "dimension", "dimension_published"]].tolist() == ["m_ecla", 1000, 12.5, 13]
    assert shown[["pixels", "embedding_published", "dimension_low"]].tolist() == [784, 4, 11.5]


@pytest.mark.parametrize(("name", "fit_attack"), [("er/3", "fgsm"), ("er/4", "pgd"), ("er/5", "cw")])
def test_tables_3_to_5_meet_high_confidence(tmp_path: Path, name: str, fit_attack: str) -> None:
    made = [detection(tmp_path / "a", "kd"), detection(tmp_path / "b", "er", "er_minmax", caught=10)]
    shown = table(name, *made).set_index(["data", "detector"])
    line = shown.loc[("MNIST", "KD")]
    assert line[["model", "confidence", "n", "broken_n"]].tolist() == ["target", 9.0, 10, 10]
    assert line[["nadv_accuracy", "com_accuracy", "known_auroc"]].tolist() == pytest.approx([1.0, 0.8, 0.8])
    assert line[["robust_reject_accuracy", "joint_robust_reject_accuracy"]].tolist() == pytest.approx([0.8, 0.0])
    assert shown.loc[("MNIST", "ER2"), "com_accuracy"] == 1 and pd.isna(shown.loc[("MNIST", "ER1"), "model"])
    text = publish.table(name, made, tmp_path)
    assert "KD" in text and "n = 10" in (tmp_path / f"{name.replace('/', '-')}.tex").read_text()
    assert fit_attack.upper().replace("CW", "C&W") in captions("tables")[name].title


def test_table_6_has_encoders_with_and_without_a_prior(tmp_path: Path) -> None:
    made = [detection(tmp_path / name, "er", name) for name in KINDS]
    shown = table("er/6", *made, detection(tmp_path / "kd", "kd"))
    mine = shown[shown["model"].notna()]
    assert len(mine) == 12 and set(mine["detector"]) == {"ER1", "ER2", "ER1-", "ER2-"} and len(shown) == 24
    assert mine["com_accuracy"].tolist() == pytest.approx([0.8] * 12)


def test_systems_are_read_from_what_a_stanza_says() -> None:
    named = {name: systems.system(classifier(name, rows("pgd", 1)).record) for name in (*KINDS, "madry")}
    assert list(named.values()) == ["ER-Classifier", "ER-Classifier, min-max", "E-CLA", "E-CLA, min-max", "Madry"]
    assert systems.system(ModelRecord(model="m", arch="vgg16", defense="madry")) is None
    assert systems.embedding(ModelRecord(model="m", arch="er_mnist")) == 4
    assert systems.embedding(ModelRecord(model="m", args={"dim": 2})) == 2
    assert systems.detector(detection_record("er", THREAT, {"model": "vgg"}).detector) == "ER (vgg)"


class TestPage:
    def test_says_what_was_not_run(self) -> None:
        text = page.page([], NUMBERS)
        assert "| MNIST   | the prior alone raises robustness" in text and "**not run**" in text
        assert "Not run: `bench detect` makes them." in text and "## Models on CIFAR10\n\nNot run." in text

    def test_says_what_survives_and_what_is_bypassed(self, tmp_path: Path) -> None:
        strong = classifier("er_minmax", rows("pgd", 2), rows("margin", 4))
        weak = classifier("ecla_minmax", rows("pgd", 30), rows("margin", 34))
        odd = classifier("er", rows("pgd", 3), args={"dim": 2})
        text = page.page([strong, weak, odd, detection(tmp_path / "a", "kd")], NUMBERS)
        (line,) = (line for line in text.splitlines() if line.startswith("| MNIST   | the prior adds"))
        assert "+70.0" in line and "**survives**" in line
        (line,) = (line for line in text.splitlines() if line.startswith("| MNIST") and "`pgd`" in line)
        assert "| KD" in line and "**is bypassed, +0.0 of +80.0 points**" in line
        assert "ER-Classifier, gaussian, n_z = 2" in text and "- `m_er_minmax`, linf 0.3: `pgd` (40)" in text

    @pytest.mark.parametrize(
        ("known", "worst", "said"),
        [
            ((0.8, 0.7, 0.9), (0.8, 0.7, 0.9), "helps, +60.0 points"),
            ((0.8, 0.7, 0.9), (0.5, 0.4, 0.6), "helps in part, +30.0 points"),
            ((0.8, 0.7, 0.9), (0.2, 0.1, 0.3), "is bypassed, +0.0 of +60.0 points"),
            ((0.2, 0.1, 0.3), (0.1, 0.0, 0.2), "does not help, under the known attack either"),
        ],
    )
    def test_of_detectors(self, known: tuple[float, ...], worst: tuple[float, ...], said: str) -> None:
        names = [f"robust_reject_accuracy{end}" for end in ("", "_low", "_high")]
        lines = [
            dict(zip(names, values, strict=True)) | {"robust_accuracy": 0.2, "n": 1000} for values in (known, worst)
        ]
        assert page.verdict(*lines) == said


class TestFigures:
    def test_sweeps_are_sorted_into_the_figures_they_belong_to(self) -> None:
        def swept(name: str, model: str, prior: str = "gaussian", **known: object) -> store.Run:
            made = sweep(model, "er", ("pgd",), **known)
            trained = {"er": KINDS[name] | {"prior": prior}} if name in KINDS else {}
            defense = "er" if trained else "madry"
            about = replace(made.record, arch="er_mnist", defense=defense, trained_with=trained, trained_for=THREAT)
            return replace(made, record=about)

        made = [
            swept("er", "a"),
            swept("er", "b", args={"dim": 2}),
            swept("er", "c", prior="cauchy"),
            swept("er_minmax", "d"),
            swept("madry", "e"),
        ]
        legends = {}
        for name in ("er/1", "er/2", "er/3"):
            (drawn,) = registry.figures[name](made).values()
            legends[name] = drawn.axes[0].get_legend_handles_labels()[1]
        assert legends == {"er/1": ["n_z = 2", "n_z = 4"], "er/2": ["trained at 0.3"], "er/3": ["cauchy", "gaussian"]}

    def test_surfaces_and_planes(self, tmp_path: Path) -> None:
        ticks = np.linspace(-0.1, 0.1, 5)
        grid = pd.DataFrame([(a, b, 1 + a + abs(b)) for a in ticks for b in ticks], columns=["along", "across", "loss"])
        places = pd.DataFrame({"label": [0, 1, 2], "x": [0.0, 1, 2], "y": [1.0, 0, 2], "size": 2, "index": [0, 1, 2]})
        made = [
            kept(
                classifier(name, rows("pgd", 2)),
                tmp_path / name,
                rademacher_surface=grid.assign(index=0, label=1, prediction=1),
                plane=places,
            )
            for name in ("er", "madry")
        ]
        for name in ("er/4", "er/5"):
            path = publish.figure(name, made, tmp_path / "out")
            with Image.open(path) as image:
                assert image.width > 1000 and np.asarray(image.convert("L")).std() > 5
        assert "needs `bench probe RUN --probes plane`" in publish.figure("er/5", [], tmp_path)


def test_detections_are_published_with_the_runs_they_lie_beside(tmp_path: Path) -> None:
    kept(classifier("er_minmax", rows("pgd", 2)), tmp_path / "runs/a")
    detection(tmp_path / "runs/b", "er", "er")
    said = publish.everything([tmp_path / "runs"], tmp_path, views=True)
    assert said.startswith("2 runs") and "ER1" in (tmp_path / "er.md").read_text()
    assert "robust_reject_accuracy" in (tmp_path / "runs/b/table.csv").read_text()
    assert "ER1" in (tmp_path / "tables/er-6.md").read_text()
    first = (tmp_path / "er.md").read_bytes(), (tmp_path / "runs/b/table.tex").read_bytes()
    publish.everything([tmp_path / "runs"], tmp_path, views=True)
    assert first == ((tmp_path / "er.md").read_bytes(), (tmp_path / "runs/b/table.tex").read_bytes())
