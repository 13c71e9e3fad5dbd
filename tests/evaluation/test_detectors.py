"""Detectors: densities and dimensions against plain references, what they refuse, the joint attack, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KernelDensity

from bench.core import registry
from bench.core.types import CLEAN, Budget, UserError
from bench.evaluation import detection, detection_images
from bench.evaluation.detectors import detector, joint_attack, kernel_density, lid
from bench.report import detection_measures
from bench.store import detections
from bench.store.record import ThreatRecord
from bench.store.runs import dump
from tests.support import subjects
from tests.support.stored_runs import detection_record

CLASSES, SHAPE = 5, (1, 6, 6)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return subjects.frozen(subjects.Centred())


def known(model: torch.nn.Module, count: int = 200, encoder: torch.nn.Module | None = None) -> detector.TrainingImages:
    x, y = dull(model, count, "known")
    y = torch.where(torch.arange(count) < CLASSES, torch.arange(count) % CLASSES, y)  # every class has one at least
    return detector.TrainingImages(x, y, CLASSES, 0, 32, "cpu", lambda name: encoder)


def dull(model: torch.nn.Module, count: int, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a tenth of the contrast, and the model's predictions."""
    x, _ = subjects.images(model, count, SHAPE, purpose)
    x = 0.5 + 0.1 * (x - 0.5)
    return x, model(x).argmax(1)


def fitted(model: torch.nn.Module, name: str, **fields: object) -> detector.Fitted:
    """A detector that was shown dull images as clean and others as adversarial."""
    about = known(model)
    measure = registry.detectors[name](**fields).measure(model, about)
    return detector.fit(measure, about, dull(model, 60, "fit")[0], subjects.images(model, 60, SHAPE, "fit")[0])


class TestDensities:
    def test_log_density_is_scikit_learn_s(self) -> None:
        codes, labels = torch.randn(60, 3), torch.arange(60) % 2
        made = kernel_density.class_densities(codes, labels, 2, bandwidth=0.7)
        z, classes = torch.randn(9, 3, requires_grad=True), torch.arange(9) % 2
        slow = [
            KernelDensity(bandwidth=0.7 / math.sqrt(2))
            .fit(codes[labels == t].numpy())
            .score(z[i : i + 1].detach().numpy())
            for i, t in enumerate(classes.tolist())
        ]
        found = made.log_density(z, classes)
        assert found.tolist() == pytest.approx(slow, abs=1e-5)
        (slope,) = torch.autograd.grad(found.sum(), z)
        assert slope.isfinite().all() and (slope != 0).any()

    def test_the_bandwidth_is_the_best_of_its_grid_by_leave_one_out(self) -> None:
        groups = [torch.randn(25, 2, dtype=torch.float64), 0.3 * torch.randn(12, 2, dtype=torch.float64) + 4]
        chosen = kernel_density.best_bandwidth(groups)

        def likelihood(width: float) -> float:
            density = KernelDensity(bandwidth=width / math.sqrt(2))
            return sum(cross_val_score(density, group.numpy(), cv=LeaveOneOut()).sum() for group in groups)

        spread = chosen / min(kernel_density._GRID, key=lambda share: abs(share - chosen / _spread(groups)))
        assert chosen == max((share * spread for share in kernel_density._GRID), key=likelihood)

    def test_far_away_codes_have_a_low_finite_density_with_a_slope(self) -> None:
        made = kernel_density.class_densities(torch.randn(20, 2), torch.zeros(20, dtype=torch.int64), 1, bandwidth=0.1)
        z = torch.full((1, 2), 1e3, requires_grad=True)
        found = made.log_density(z, torch.zeros(1, dtype=torch.int64))
        assert found.isfinite().all() and float(found.detach()) < -1e6
        assert (torch.autograd.grad(found.sum(), z)[0] < 0).all()

    def test_a_class_without_training_images_is_one_line(self) -> None:
        with pytest.raises(UserError, match="class 2 has no training images") as fault:
            kernel_density.class_densities(torch.randn(9, 2), torch.arange(9) % 2, 3)
        assert "\n" not in str(fault.value)

    def test_singular_covariance_has_a_density_and_constant_codes_none(self) -> None:
        labels = torch.arange(40) % 2
        line = torch.randn(40, 1).expand(40, 3)
        assert kernel_density.class_densities(line, labels, 2).log_density(line, labels).isfinite().all()
        with pytest.raises(UserError, match="do not differ within any class"):
            kernel_density.class_densities(labels[:, None].expand(40, 3).float(), labels, 2)
        assert (
            kernel_density.class_densities(torch.ones(40, 3), labels, 2, 0.5)
            .log_density(torch.ones(4, 3), labels[:4])
            .isfinite()
            .all()
        )


def _spread(groups: list[torch.Tensor]) -> float:
    squares = sum(float((group - group.mean(0)).square().sum()) for group in groups)
    return math.sqrt(squares / sum(group.numel() for group in groups))


class TestDimensions:
    def test_lid_is_the_printed_sum(self) -> None:
        points, others = torch.randn(7, 4), torch.randn(30, 4)
        slow = []
        for point in points.double():
            apart = sorted(float((point - other).norm()) for other in others.double())[:10]
            slow.append(-10 / sum(math.log(distance / apart[-1]) for distance in apart))
        assert lid.local_dimension(points, others, 10).tolist() == pytest.approx(slow)

    def test_constant_activations_have_the_largest_dimension_and_a_finite_slope(self) -> None:
        points = torch.ones(3, 4, requires_grad=True)
        found = lid.local_dimension(points, torch.ones(20, 4), 5)
        assert found.tolist() == pytest.approx([1000.0] * 3)
        assert torch.autograd.grad(found.sum(), points)[0].isfinite().all()
        same = lid.local_dimension(torch.zeros(1, 4), torch.cat([torch.zeros(1, 4), torch.rand(9, 4)]), 5)
        assert 0 < float(same) < 1

    def test_every_layer_is_measured_and_no_hook_stays(self, model: torch.nn.Module) -> None:
        x, _ = subjects.images(model, 3, SHAPE)
        found, logits = lid.layers(model, x)
        assert [part.shape[1] for part in found] == [36, 216, 8] and torch.equal(logits, model(x))
        assert not any(part._forward_hooks for part in model.modules())

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"k": 20, "minibatch": 10}, "20 neighbours do not fit in a minibatch of 10"),
            ({"k": 1}, "1 neighbours do not fit"),
            ({"minibatch": 500}, "a minibatch of 500 is more than 200 training images"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, model: torch.nn.Module, fields: dict[str, int], said: str) -> None:
        with pytest.raises(UserError, match=said):
            registry.detectors["lid"](**fields).measure(model, known(model))


class TestFitting:
    @pytest.mark.parametrize("name", ["kd", "er", "lid"])
    def test_a_detector_tells_what_it_was_fitted_on(self, model: torch.nn.Module, name: str) -> None:
        made = fitted(model, name)
        x, _ = dull(model, 100, "test")
        sharp, _ = subjects.images(model, 100, SHAPE, "test")
        assert detection_measures.auroc(made.score(x).tolist(), made.score(sharp).tolist()) > 0.8
        alone = torch.cat([made.score(x[i : i + 1]) for i in range(10)])
        assert torch.allclose(alone, made.score(x[:10]), atol=1e-4)
        assert torch.equal(made.answers(x)[:, :-1], model(x))

    def test_er_looks_at_its_encoder_s_codes_and_the_model_s_class(self, model: torch.nn.Module) -> None:
        encoder = subjects.frozen(subjects.Centred(classes=3))
        about = known(model, encoder=encoder)
        measure = registry.detectors["er"](encoder="other", bandwidth=0.5).measure(model, about)
        x, _ = subjects.images(model, 20, SHAPE)
        codes = kernel_density.class_densities(encoder.features(about.images), about.labels, CLASSES, 0.5)
        expected = codes.log_density(encoder.features(x), model(x).argmax(1))
        assert torch.allclose(measure.call(x)[0][:, 0], expected, atol=1e-6) and measure.facts["bandwidth"] == 0.5

    def test_only_so_many_images_of_a_class_are_taken(self, model: torch.nn.Module) -> None:
        measure = registry.detectors["kd"](bandwidth=1.0, per_class=3).measure(model, known(model))
        assert measure.facts["codes"] <= 3 * CLASSES

    def test_too_few_adversarial_examples_are_one_line(self, model: torch.nn.Module) -> None:
        about = known(model)
        measure = registry.detectors["kd"]().measure(model, about)
        with pytest.raises(UserError, match="the attack broke 4 images and a detector is fitted on 10 or more"):
            detector.fit(measure, about, about.images[:20], about.images[:4])

    def test_a_constant_measurement_says_nothing(self, model: torch.nn.Module) -> None:
        measure = detector.Measure(lambda x: (torch.ones(len(x), 2), model(x)), "standard")
        about = known(model)
        made = detector.fit(measure, about, about.images[:40], about.images[40:60])
        assert len(set(made.score(about.images[:9]).tolist())) == 1
        bad = detector.Measure(lambda x: (torch.full((len(x), 1), torch.nan), model(x)), "range")
        with pytest.raises(UserError, match="NaN or infinity"):
            detector.fit(bad, about, about.images[:40], about.images[40:60])

    def test_an_encoder_of_other_images_is_one_line(self, model: torch.nn.Module) -> None:
        other = registry.architectures["er_mnist"](widths=(2, 2, 2, 2), fc=(4,)).eval()
        with pytest.raises(UserError, match="cannot take 1x6x6 images"):
            registry.detectors["er"](encoder="mnist").measure(model, known(model, encoder=other))


class TestJoint:
    @pytest.mark.parametrize("name", ["kd", "er", "lid"])
    def test_fools_both_where_fooling_one_does_not(self, model: torch.nn.Module, name: str) -> None:
        made = fitted(model, name)
        x, y = dull(model, 24, "joint")
        budget, keys = subjects.budget("linf", 0.15, len(x)), subjects.keys(len(x))
        clean = made.score(x)
        level = detections.threshold(clean.tolist())
        oblivious = registry.attacks["pgd"](steps=20)(model, x, y, budget, keys)
        mine = joint_attack.JointAttack(steps=20)(made, level, x, y, budget, keys)

        def through(x_adv: torch.Tensor) -> int:
            return int(((model(x_adv).argmax(1) != y) & (made.score(x_adv) <= level)).sum())

        assert through(mine) >= max(through(oblivious), 1)
        assert float((mine.double() - x.double()).abs().max()) <= 0.15 and mine.min() >= 0 and mine.max() <= 1
        wrong = model(mine).argmax(1) != y
        assert torch.equal(mine[~wrong], x[~wrong])

    def test_one_image_alone_is_the_same_image_in_a_batch(self, model: torch.nn.Module) -> None:
        made = fitted(model, "kd")
        x, y = subjects.images(model, 9, SHAPE, "joint")
        attack, keys = joint_attack.JointAttack(steps=8), subjects.keys(9)
        whole = attack(made, 0.0, x, y, subjects.budget("linf", 0.1, 9), keys)
        alone = [
            attack(made, 0.0, x[i : i + 1], y[i : i + 1], subjects.budget("linf", 0.1, 1), keys[i : i + 1])
            for i in range(9)
        ]
        assert torch.allclose(torch.cat(alone), whole, atol=1e-6)

    def test_needs_a_budget(self, model: torch.nn.Module) -> None:
        x, y = subjects.images(model, 2, SHAPE)
        with pytest.raises(UserError, match="give --eps"):
            joint_attack.JointAttack()(fitted(model, "kd"), 0.0, x, y, Budget("l2", None), subjects.keys(2))


class TestNumbers:
    def test_parts_share_no_image_and_hold_every_one(self) -> None:
        indices = torch.arange(7, 360)
        for seed in range(5):
            found = detection_images.parts(indices, seed)
            places = torch.cat(list(found.values()))
            assert sorted(places.tolist()) == list(range(353)) and tuple(found) == detections.PARTS
            assert [len(part) for part in found.values()] == [141, 71, 141]
        alike = detection_images.parts(indices, 0), detection_images.parts(indices, 1)
        assert not torch.equal(alike[0]["test"], alike[1]["test"])

    def test_definitions_on_a_table_by_hand(self, tmp_path: Path) -> None:
        rows = [self.row("calibration", CLEAN, 100 + i, i / 100 - 1) for i in range(40)]
        # Five test images: one wrong when clean, one rejected when clean, three pass.
        rows += [self.row("test", CLEAN, i, score, clean_pred=clean) for i, score, clean in self.clean]
        rows += [self.row("test", "noise", i, score) for i, score in ((1, -1.0), (2, 1.0))]
        adversarial = [(1, True, -0.9), (2, False, -1.0), (3, True, 2.0), (4, True, -0.61)]
        asked: dict[str, object] = {"norm": "linf", "eps": 0.2}
        about = detection_record("kd", ThreatRecord(norm="linf", eps=0.2))
        rows += [
            self.row("test", "pgd", i, score, broken=hit, adv_pred=int(hit), **asked) for i, hit, score in adversarial
        ]
        made = detections.write(tmp_path / "a", about, pd.DataFrame(rows))
        (line,) = detection_measures.summary(made).to_dict("records")
        # Of 40 calibration scores the 95 % quantile is the 39th: -0.62; image 1 is above it when clean.
        assert line["n"] == 5 and line["clean_accuracy"] == 0.8 and line["fpr_rate"] == 0.25
        assert line["clean_reject_accuracy"] == 0.6 and line["robust_accuracy"] == 0.2
        # Image 1 is rejected when clean; 2 stands, 3 is caught at 2.0, 4 at -0.61.
        assert line["robust_reject_accuracy"] == pytest.approx(0.6)
        assert line["nadv_accuracy"] == pytest.approx(5 / 6) and line["com_accuracy"] == 0.5
        assert line["auroc"] == pytest.approx((1.5 + 4 + 3) / 12) and line["broken_n"] == 3

        # Two attacks within the budget end in their worst, image by image; one in another norm is no part of it.
        more = [(2, True, -1.0), (4, False, -1.0)]
        rows += [self.row("test", "fgsm", i, score, broken=hit, adv_pred=int(hit), **asked) for i, hit, score in more]
        rows += [self.row("test", "cw", 3, -1.0, broken=True, adv_pred=1, norm="l2")]
        lines = detection_measures.summary(detections.write(tmp_path / "b", about, pd.DataFrame(rows))).set_index(
            "attack"
        )
        worst = lines.loc["worst"]
        assert list(lines.index) == ["pgd", "fgsm", "cw", "worst"] and worst["broken_n"] == 4
        assert worst["robust_accuracy"] == 0 and worst["robust_reject_accuracy"] == pytest.approx(0.4)
        assert worst["com_accuracy"] == 0.25 and math.isnan(worst["auroc"])

    clean = ((0, -0.5, 1), (1, -0.6, 0), (2, -0.9, 0), (3, -0.95, 0), (4, -0.8, 0))

    def row(self, part: str, attack: str, index: int, score: float, **more: object) -> dict[str, object]:
        cells = {"clean_pred": 0, "adv_pred": 0, "broken": False, "norm": "", "eps": None, "size": 0.0} | more
        return (
            {"part": part, "fit_attack": "pgd", "attack": attack, "index": index, "label": 0, "lawful": True}
            | cells
            | {"score": score}
        )

    def test_thresholds_and_areas_at_the_edges(self) -> None:
        assert detections.threshold([]) == float("inf") and detections.threshold([3.0]) == 3.0
        assert math.isnan(detection_measures.auroc([], [1.0])) and detection_measures.auroc([0.0, 1.0], [1.0]) == 0.75


ATTACKS = ("--attacks", "fgsm,pgd(steps=5)", "--eps", "0.2")


class TestCommand:
    def test_leaves_files_whose_parts_are_disjoint(self, bench, tmp_path: Path) -> None:
        said = bench("detect", "--model", "tiny", "--detector", "kd", *ATTACKS, "--out", "out")
        assert said.code == 0, said.err
        assert "joint" in said.out and {path.name for path in Path("out").iterdir()} == {
            "detect.json",
            "scores.csv",
            "table.csv",
            "table.tex",
            "table.md",
        }
        table = pd.read_csv("out/scores.csv")
        homes = {part: set(rows["index"]) for part, rows in table.groupby("part")}
        assert set(homes) == set(detections.PARTS) and len(homes["test"]) == 144 and len(homes["calibration"]) == 72
        assert not homes["fit"] & homes["calibration"] and not (homes["fit"] | homes["calibration"]) & homes["test"]
        assert set(table[table["part"] == "fit"]["attack"]) == {"clean", "noise", "fgsm", "pgd(steps=5)"}
        assert not table["score"].isna().any()
        record = json.loads(Path("out/detect.json").read_text())
        assert record["detector"]["bandwidth"] > 0 and record["threat"]["eps_written"] == "0.2" and "eps" not in record
        summary = pd.read_csv("out/table.csv")
        assert len(summary) == 8 and set(summary["fit_attack"]) == {"fgsm", "pgd(steps=5)"}
        by = summary.set_index(["fit_attack", "attack"])["robust_reject_accuracy"]
        assert by["fgsm", "joint"] <= by["fgsm", "fgsm"] + 0.02
        again = bench("detect", "--model", "tiny", "--detector", "kd", *ATTACKS, "--out", "again")
        assert again.code == 0
        assert Path("out/scores.csv").read_bytes() == Path("again/scores.csv").read_bytes()
        assert bench("detect", "--model", "tiny", "--detector", "kd", *ATTACKS, "--out", "out").code == 2

    def test_the_fit_attack_is_met_too(self, bench) -> None:
        words = ("--attacks", "pgd(steps=5)", "--fit-attack", "fgsm", "--eps", "0.2", "-n", "200", "--out", "out")
        said = bench("detect", "--model", "tiny", "--detector", "lid(k=10)", *words)
        assert said.code == 0, said.err
        summary = pd.read_csv("out/table.csv")
        assert summary["fit_attack"].tolist() == ["fgsm"] * 4
        assert summary["attack"].tolist() == ["pgd(steps=5)", "fgsm", "joint", "worst"]

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--detector", "kdd"], "unknown detector 'kdd': did you mean kd"),
            (["--detector", "kd(sigma=1)"], "has no field 'sigma'"),
            (["--detector", "kd(bandwidth='wide')"], "bandwidth cannot be 'wide'"),
            (["--detector", "kd,lid"], "names 2 detectors"),
            (["--detector", "lid(k=30,minibatch=20)"], "30 neighbours do not fit in a minibatch of 20"),
            (["--detector", "kd", "-n", "20"], "is fitted on 10 or more"),
            (["--detector", "er(encoder='nobody')"], "unknown model 'nobody'"),
            (["--detector", "kd", "--fit-attack", "pdg"], "unknown attack 'pdg'"),
            (["--detector", "kd(per_class=0)"], "per_class"),
        ],
    )
    def test_bad_words_are_one_line(self, bench, words: list[str], said: str) -> None:
        found = bench("detect", "--model", "tiny", "--attacks", "fgsm", "--eps", "0.05", *words, "--out", "out")
        assert found.code == 2 and said in found.err and found.err.strip().count("\n") == 0

    def test_needs_training_images_beside(self, bench, tmp_path: Path) -> None:
        from PIL import Image

        for name in "0123456789":
            (tmp_path / "pictures" / name).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "pictures" / name / "a.png")
        words = ("--data", f"folder:{tmp_path / 'pictures'}", "--detector", "kd", "--attacks", "fgsm", "--eps", "0.1")
        found = bench("detect", "--model", "tiny", *words)
        assert found.code == 2 and "a detector needs a training split" in found.err

    def test_a_damaged_detection_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no detection"):
            detections.load(tmp_path)
        (tmp_path / "detect.json").write_text("{")
        with pytest.raises(UserError, match="is damaged"):
            detections.load(tmp_path)
        about = detection_record("kd", ThreatRecord(norm="linf", eps=0.2))
        (tmp_path / "detect.json").write_text(dump(about.to_dict()))
        (tmp_path / "scores.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UserError, match="has other columns"):
            detection_measures.summary(detections.load(tmp_path))

    def test_detectors_are_listed(self, bench) -> None:
        found = bench("list", "detectors")
        assert found.code == 0 and all(name in found.out for name in ("kd", "lid", "er"))
        assert detection.build("kd(bandwidth=1)")[1].bandwidth == 1
