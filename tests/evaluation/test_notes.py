"""What is said of a model before its numbers are believed, and what is asked before a run and not in its middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import bench as package
from bench.core.types import NOT_FINITE, UserError
from bench.evaluation import checks
from bench.evaluation.judge import predictions
from bench.evaluation.notes import met_in_part
from bench.models.adapted import adapted
from bench.ops import losses, passes
from tests.support import subjects
from tests.support.checkout import ROOT

SHAPE = (1, 6, 6)


class After(nn.Module):
    """A small net whose logits pass through a function."""

    def __init__(self, after: Callable[[Tensor], Tensor] = lambda z: z, classes: int = 5) -> None:
        super().__init__()
        self.net, self.after = subjects.Centred(classes), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(x))


def evaluated(model: nn.Module, attacks: str = "fgsm", count: int = 60, **more: Any) -> Any:
    x, _ = subjects.images(subjects.Centred(), count, SHAPE)
    y = more.pop("labels", None)
    return package.evaluate(model, x, adapted(model, x)(x).argmax(1) if y is None else y, attacks, eps=0.1, **more)


class TestRuledOut:
    """Logits of -infinity, or of the smallest number, on some classes but the label's."""

    def masked(self, value: float, classes: int = 2) -> nn.Module:
        def mask(logits: Tensor) -> Tensor:
            return torch.cat([logits, logits.new_full((len(logits), classes), value)], 1)

        return After(mask)

    EVERY = (
        "pgd(steps=5),apgd_ce(steps=5),apgd_dlr(steps=5),apgd_t(steps=5,targets=4),square(queries=40),margin(steps=5),"
        "normalised_ce(steps=5),kl(steps=5),deepfool,fmn(steps=20),ddn(steps=20),cw(searches=2,steps=20),"
        "alma(steps=20),pdgd(steps=20),fab(steps=5),fab_t(steps=5),multi_margin(steps=5)"
    )

    @pytest.mark.parametrize("value", [torch.finfo(torch.float32).min, -torch.inf])
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_no_finite_row_is_flagged_and_attacks_break_what_they_break_without_the_classes(self, value, norm):
        written = self.EVERY if norm == "linf" else self.EVERY.replace("deepfool", "deepfool(steps=20)")
        x, y = subjects.images(subjects.Centred(), 30, SHAPE)
        budget = {"norm": norm, "eps": 0.1 if norm == "linf" else 0.5}
        run = package.evaluate(self.masked(value), x, y, written, **budget)
        plain = package.evaluate(After(), x, y, written, **budget)
        assert (run.verdicts["adv_pred"] != NOT_FINITE).all() and run.record.notes == ("ruled out",)
        apart = plain.table()["robust_accuracy"] - run.table()["robust_accuracy"]
        assert (apart.abs() <= 0.07).all(), apart

    def test_a_prediction_needs_one_finite_logit_above_and_nothing_that_is_no_number(self):
        inf, low = torch.inf, torch.finfo(torch.float32).min
        logits = torch.tensor(
            [[0.0, -inf, -inf], [low, 1.0, low], [-inf, -inf, -inf], [0, inf, 1], [torch.nan, 0, 1], [low, low, low]]
        )
        assert predictions(logits).tolist() == [0, 1, NOT_FINITE, NOT_FINITE, NOT_FINITE, 0]

    def test_rows_whose_sum_overflows_are_finite(self):
        class Masked(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([x.flatten(1)[:, :2], torch.full((len(x), 2), torch.finfo(torch.float32).min)], 1)

        with passes.counted(20) as tally:
            passes.outputs(Masked(), torch.rand(20, *SHAPE))
            passes.input_gradient(losses.logit_margin, Masked(), torch.rand(20, *SHAPE), torch.zeros(20).long())
        assert not tally.not_finite.any()


class TestNotes:
    def test_a_sound_model_has_none(self):
        run = evaluated(subjects.Centred())
        assert run.record.notes == () and "notes" not in run.record.to_dict()

    def test_probabilities(self):
        assert evaluated(After(lambda z: z.softmax(1))).record.notes == ("softmax",)

    def test_a_class_more_than_the_data(self):
        extra = After(lambda z: torch.cat([z, z.amin(1, keepdim=True) - 1], 1))
        assert evaluated(extra, labels=torch.arange(60) % 5).record.notes == ("extra class",)

    def test_state_between_calls_is_noted_not_refused(self):
        class Remembers(After):
            before: Tensor | float = 0.0

            def forward(self, x: Tensor) -> Tensor:
                shift, self.before = self.before, x.mean().item()
                return super().forward(x) + torch.arange(5.0) * shift

        with pytest.raises(UserError, match="deterministic"):
            evaluated(Remembers())
        assert "state" in evaluated(Remembers(), force=True).record.notes

        class LastOther(After):
            """Depends on the last batch that was another one than this."""

            last: tuple[float, float] = (0.0, 0.0)

            def forward(self, x: Tensor) -> Tensor:
                mean = x.mean().item()
                if mean != self.last[1]:
                    self.last = (self.last[1], mean)
                return super().forward(x) + torch.arange(5.0) * self.last[0]

        x, _ = subjects.images(subjects.Centred(), 16, SHAPE)
        run = package.evaluate(LastOther(), x, torch.zeros(16).long(), "noise", eps=0.1, force=True)
        assert "state" in run.record.notes

    def test_noise_on_logits_of_any_scale_is_seen(self):
        for scale in (1e-12, 1e-30, 1.0, 1e20):
            noisy = After(lambda z, by=scale: (z + 0.1 * torch.randn_like(z)) * by)
            with pytest.raises(UserError, match=r"check 'deterministic' failed"):
                evaluated(noisy)
            run = evaluated(noisy, force=True)
            assert run.record.forced == ("deterministic",) and "state" not in run.record.notes
            assert evaluated(After(lambda z, by=scale: z * by)).record.forced == ()


class TestBeforeTheRun:
    @pytest.mark.parametrize(("attack", "needs"), [("apgd_dlr", 3), ("apgd_t", 4), ("autoattack", 4)])
    def test_too_few_classes_are_refused_before_any_attack(self, attack, needs, monkeypatch):
        monkeypatch.setattr("bench.evaluation.schedule.perform", lambda *_: pytest.fail("an attack ran"))
        with pytest.raises(UserError, match=rf"{attack}'? needs (at least )?{needs} classes"):
            evaluated(After(lambda z: z[:, :2]), f"fgsm,{attack}")

    def test_a_surrogate_of_another_shape_is_refused_before(self, bench: Callable, monkeypatch):
        monkeypatch.setattr("bench.evaluation.schedule.perform", lambda *_: pytest.fail("an attack ran"))
        words = ("--model", "tiny", "-n", "8", "--attacks", "fgsm,transfer(model='wide')")
        Path("wide.py").write_text(
            "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(9, 10))"
        )
        Path("checkpoints.toml").write_text(Path("checkpoints.toml").read_text() + '\n[wide]\narch = "wide.py:make"\n')
        said = bench("run", *words)
        assert said.code == 2 and "surrogate 'wide' does not take these images" in said.err

    def test_what_ran_before_a_failing_attack_is_not_lost(self, tmp_path):
        source = tmp_path / "late.py"
        source.write_text(
            "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Late:\n"
            "    needs, norms, minimal = (), ('linf',), False\n"
            "    def __call__(self, model, x, y, budget, keys):\n        raise KeyError('late')\n"
        )
        with pytest.raises(UserError, match="failed with KeyError") as caught:
            evaluated(After(), f"fgsm,noise,{source}:Late")
        before = caught.value.partial
        assert set(before.verdicts["attack"]) == {"fgsm", "noise"} and len(before.verdicts) == 120
        assert not before.record.finished and "fgsm" in str(before)

    def test_a_device_that_holds_nothing(self, bench: Callable):
        said = bench("run", "--model", "tiny", "-n", "8", "--attacks", "fgsm", "--device", "meta")
        assert said.code == 2 and "device 'meta' is not available" in said.err and said.err.count("\n") == 1


class TestMessages:
    def test_a_value_just_outside_shows_its_digits(self):
        for image, shown in ((1.0000001, "1.00000012"), (-1e-9, "-1e-09")):
            x = torch.full((2, *SHAPE), 0.5)
            x[0, 0, 0, 0] = image
            with pytest.raises(UserError) as caught:
                checks.check_images(x)
            assert shown in str(caught.value) and "outside [0, 1]" in str(caught.value)

    def test_a_model_that_cannot_be_given_these_images(self):
        with pytest.raises(UserError, match=r"check 'input' failed.*data of the shape"):
            evaluated(nn.Sequential(nn.Flatten(), nn.Linear(7, 3)), labels=torch.zeros(60).long())

        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(36, 4).half(), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.second(self.first(x.flatten(1)))

        with pytest.raises(UserError, match=r"check 'input' failed.*one floating-point type"):
            evaluated(Mixed(), labels=torch.zeros(60).long())


class TestFewClasses:
    def test_a_set_in_the_order_of_its_classes_is_seen(self):
        whole = torch.arange(4).repeat_interleave(10)
        note = met_in_part(whole[:15], whole)
        assert note is not None and "2 of 4 classes" in note.text and "ordered by class" in note.text
        assert met_in_part(whole[:40], whole) is None and met_in_part(whole[::4], whole) is None

    def test_few_images_of_a_mixed_set_are_not_blamed(self):
        mixed = torch.arange(10).repeat(30)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
        assert all(met_in_part(mixed[:count], mixed) is None for count in (1, 4, 8, 12, 20, 60))

    def test_from_the_command_line(self, bench: Callable):
        for label in ("a", "b", "c"):
            Path("set", label).mkdir(parents=True)
            for place in range(6):
                pixels = np.random.default_rng(place).integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(Path("set", label, f"{place}.png"))
        words = ("run", "--model", "tiny", "--data", "folder:set", "--attacks", "fgsm", "--eps", "0.1")
        said = bench(*words, "-n", "first:7", "--out", "part")
        assert said.code == 0 and "the first 7 images hold 2 of 3 classes" in said.err
        assert "few classes" in json.loads(Path("part/run.json").read_text())["notes"]
        assert "classes:" not in bench(*words, "--out", "all").err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_lacks_letters_gets_plain_ones(encoding: str, tmp_path: Path, digits_mlp: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "LANG": "C"}
    words = ["--model", "tiny", "-n", "8", "--attacks", "fgsm", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "bench.cli", "run", *words]
    said = subprocess.run(command, cwd=digits_mlp, env=environment, capture_output=True, check=True)
    assert b"linf eps = 0.1" in said.stdout and said.stdout.isascii()
    code = f"import bench; print(bench.load_run({str(tmp_path / 'out')!r}))"
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert b"linf eps = 0.1" in said.stdout


def test_a_randomised_model_is_not_broken_without_a_change() -> None:
    """C&W's first point is the clean image but for the rounding of its change of variables."""

    class Flips(After):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return torch.where(torch.rand(len(x), 1) < 0.3, logits.flip(1), logits)

    torch.manual_seed(3)
    run = evaluated(Flips(), "cw(searches=2,steps=3),ddn(steps=1),fgsm", force=True)
    assert not run.verdicts[run.verdicts["size"] < 1e-7]["broken"].any()
