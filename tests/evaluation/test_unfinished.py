"""Runs that are not whole, budgets and data that cannot be meant: one clear line, and no number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.core import registry
from bench.core.types import UserError
from bench.models import memory_format
from bench.report import audit, baseline
from bench.store import runs

ASKED = ("--model", "tiny", "-n", "12", "--seed", "3")


def cut(run: Path, lines: int) -> None:
    path = run / "verdicts.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lines]))


def test_a_finished_run_that_lost_rows_is_damaged_until_it_is_resumed(bench):
    assert bench("run", *ASKED, "--attacks", "noise,pgd", "--out", "a").code == 0
    whole = Path("a/verdicts.csv").read_bytes()
    cut(Path("a"), 5)
    for command in (("audit", "a"), ("compare", "a", "a"), ("publish", "--runs", "a", "--out", "all")):
        said = bench(*command)
        assert said.code == 2 and said.err.count("\n") == 1 and "lacks 5 rows" in said.err and "--resume" in said.err
    assert bench("run", *ASKED, "--attacks", "noise,pgd", "--out", "a", "--resume").code == 0
    assert Path("a/verdicts.csv").read_bytes() == whole


def test_an_unfinished_run_is_audited_with_a_warning_and_not_compared(bench):
    assert bench("run", *ASKED, "--attacks", "noise,pgd", "--save-adversarial", "--out", "a").code == 0
    cut(Path("a"), 5)
    record = replace(runs.read_record(Path("a")), finished=False)
    Path("a/run.json").write_text(runs.dump(record.to_dict()))
    said = bench("audit", "a")
    assert said.code == 0 and "unfinished: 5 of the run's rows" in said.out
    for command in (("compare", "a", "a"), ("publish", "--runs", "a", "--out", "all")):
        said = bench(*command)
        assert said.code == 2 and "not finished: continue it with --resume" in said.err and not said.out
    Path("a/adversarial.parts").mkdir()
    with pytest.raises(UserError, match="not finished"):
        baseline.compare_runs(runs.load(Path("a"), finished=True), runs.load(Path("a")))
    assert "not finished" in bench("verify", "a").err


def test_an_attack_that_returns_nan_is_no_evidence(bench):
    Path("nothing.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n\n@dataclass(frozen=True)\nclass Nothing:\n"
        "    needs: ClassVar = ()\n    norms: ClassVar = ('l2',)\n    minimal: ClassVar = True\n\n"
        "    def __call__(self, model, x, y, budget, keys):\n        return x + float('nan')\n"
    )
    said = bench("run", *ASKED, "--attacks", "nothing.py:Nothing()", "--out", "a")
    assert said.code == 0 and "no evidence of robustness" in said.out
    seen = audit.report(runs.load(Path("a")))
    assert "not finite" in seen and "more steps" not in seen


def test_a_linf_budget_beyond_the_range_of_images(bench):
    said = bench("run", *ASKED, "--attacks", "pgd", "--eps", "8", "--norm", "linf", "--out", "a")
    assert said.code == 2 and "eps 8 in linf" in said.err and "8/255" in said.err and not Path("a").exists()
    assert bench("run", *ASKED, "--attacks", "pgd", "--eps", "8", "--norm", "l2", "--out", "a").code == 0


def test_a_model_for_other_images_is_left_to_its_checks():
    model = registry.architectures["digits_cnn"]().eval()
    with pytest.raises(RuntimeError, match="shapes"):
        model(torch.rand(4, 1, 28, 28))
    with memory_format.suited(model, torch.rand(4, 1, 28, 28)):
        assert all(weight.is_contiguous() for weight in model.parameters())
