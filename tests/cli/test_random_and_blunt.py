"""`--eot`, `--draws` and `--backward`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

NOISY = ["--model", "defended.py:noisy", "--data", "digits", "-n", "12", "--eps", "0.2"]
BLUNT = ["--model", "defended.py:blunted", "--data", "digits", "-n", "12", "--eps", "0.2"]


@pytest.fixture(autouse=True)
def defended(bench):
    """The file of models, beside the user."""
    shutil.copy(ROOT / "tests" / "support" / "defended.py", "defended.py")


def _record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def _refused(said, *parts):
    lines = said.err.strip().splitlines()
    assert said.code == 2, said
    assert len(lines) == 1
    assert all(part in lines[0] for part in parts), lines[0]


def test_a_random_model_is_refused_with_the_way_out(bench):
    _refused(bench("run", *NOISY, "--attacks", "pgd(steps=2)"), "deterministic", "--eot 20")


def test_a_run_is_made_verified_and_resumed_alike(bench):
    words = [*NOISY, "--eot", "4", "--draws", "6", "--save-adversarial", "--attacks", "pgd(steps=6),square(queries=9)"]
    assert bench("run", *words, "--out", "whole").code == 0
    assert (_record("whole")["eot"], _record("whole")["draws"]) == (4, 6)
    said = bench("verify", "whole", "--trust")
    assert said.code == 0, said
    rows = Path("whole/verdicts.csv").read_text()
    assert bench("run", *words, "--out", "again").code == 0
    assert Path("again/verdicts.csv").read_text() == rows
    # A run cut short in the second attack goes on to the same rows.
    lines = rows.splitlines(keepends=True)
    Path("again/verdicts.csv").write_text("".join(lines[:16]))
    assert bench("run", *words, "--out", "again", "--resume").code == 0
    assert Path("again/verdicts.csv").read_text() == rows
    other = [word if word != "4" else "3" for word in words]
    _refused(bench("run", *other, "--out", "again", "--resume"), "eot 4, not 3")


def test_another_seed_draws_otherwise(bench):
    words = [*NOISY, "--eot", "2", "--attacks", "pgd(steps=4)"]
    rows = []
    for seed in ("0", "1"):
        assert bench("run", *words, "--seed", seed, "--out", seed).code == 0
        rows.append(Path(seed, "verdicts.csv").read_text())
    assert rows[0] != rows[1]


def test_a_sweep_takes_them_too(bench):
    said = bench("sweep-eps", *NOISY[:-2], "--eps", "0,0.3", "--eot", "3", "--attack", "pgd(steps=8)", "--out", "sweep")
    assert said.code == 0, said
    assert _record("sweep")["eot"] == 3


@pytest.mark.parametrize("surrogate", ["identity", "defended.py:smooth", "defended.py:unrounded", "mat_digits_plain"])
def test_a_stand_in_breaks_what_gradients_leave(bench, surrogate):
    words = [*BLUNT, "--attacks", "pgd(steps=20)"]
    assert bench("run", *words, "--force", "--out", "blind").code == 0
    assert bench("run", *words, "--backward", surrogate, "--out", "seen").code == 0
    left = [Path(folder, "verdicts.csv").read_text().count("True,True") for folder in ("blind", "seen")]
    assert left[0] <= 2
    assert left[1] >= 9
    record = _record("seen")
    assert record["backward"] == surrogate
    assert len(record.get("backward_sha256", "")) == (0 if surrogate == "identity" else 64)


def test_a_changed_surrogate_is_not_gone_on_with(bench):
    words = [*BLUNT, "--attacks", "pgd(steps=3)", "--backward", "stand_in.py:smooth", "--out", "out"]
    Path("stand_in.py").write_text("def smooth(model, x):\n    return model.net(x)\n")
    assert bench("run", *words).code == 0
    Path("stand_in.py").write_text("def smooth(model, x):\n    return 2 * model.net(x)\n")
    _refused(bench("run", *words, "--resume"), "backward_sha256")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([*BLUNT, "--backward", "identitee"], ["identitee"]),
        ([*BLUNT, "--backward", "defended.py:dead"], ["dead", "no gradient"]),
        ([*BLUNT, "--backward", "defended.py:nothing"], ["nothing"]),
        ([*BLUNT, "--backward", "missing.py:f"], ["missing.py"]),
        ([*BLUNT, "--backward", "madry_mnist_cnn"], ["madry_mnist_cnn"]),
        ([*NOISY, "--eot", "0"], ["--eot"]),
        ([*NOISY, "--eot", "1e9"], ["--eot"]),
        ([*NOISY, "--eot", "9" * 400], ["--eot"]),
        ([*NOISY, "--draws", "1"], ["--draws 2"]),
    ],
)
def test_refusals(bench, words, parts):
    _refused(bench("run", *words, "--attacks", "pgd(steps=3)", "--out", "out"), *parts)


def test_a_baseline_holds_plain_runs(bench):
    assert bench("run", *BLUNT, "--backward", "identity", "--attacks", "pgd(steps=3)", "--out", "out").code == 0
    _refused(bench("check", "--baseline", "baseline.csv", "--add", "out"), "--backward")
