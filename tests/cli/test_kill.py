"""Commands killed at random moments, with SIGKILL: what they leave goes on to the bytes of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from bench.cli import main, workflows  # noqa: F401  imported here, so that no fork has to
from bench.evaluation import detection  # noqa: F401
from bench.report import curves, detection_table  # noqa: F401
from defenses import __main__ as training
from defenses.training import loop  # noqa: F401

MOMENTS = 50
"""How often each command is killed."""

MODEL = ("--model", "tiny", "-n", "48", "--batch-size", "8")
RUN = ("run", *MODEL, "--eps", "0.1", "--attacks", "pgd(steps=60),ddn(steps=40),margin(steps=20)", "--save-adversarial")
SWEEP = ("sweep-eps", *MODEL, "--attack", "pgd(steps=30)", "--eps", "0:0.2:5")
DETECT = (
    "detect",
    "--model",
    "tiny",
    "--detector",
    "kd",
    "--attacks",
    "fgsm,pgd(steps=40)",
    "--eps",
    "0.1",
    "-n",
    "120",
)
TRAIN = ("train", "natural_digits", "--set", "train.epochs=8", "--set", "data.limit=400")
KEPT = {
    "run": ("verdicts.csv", "adversarial.npz"),
    "sweep-eps": ("verdicts.csv",),
    "detect": ("scores.csv",),
    "train": ("weights.safetensors",),
}


def _command(words: tuple[str, ...], home: Path) -> None:
    """Run a command line in a forked process, which has imported what it needs already."""
    torch.set_num_threads(1)  # the pool of the parent's threads is not in a fork
    os.chdir(home)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.argv = ["bench", *words]
    (training if words[0] == "train" else main).entry()


def started(words: tuple[str, ...], home: Path) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_command, args=(words, home))
    process.start()
    return process


def whole(words: tuple[str, ...], home: Path) -> float:
    """Run a command to its end; how many seconds it took."""
    began = time.monotonic()
    process = started(words, home)
    process.join(600)
    assert process.exitcode == 0, words
    return time.monotonic() - began


def killed(words: tuple[str, ...], home: Path, place: Path, share: float, seconds: float) -> None:
    """Kill a command when its folder is there and a share of the time has passed that it takes from there."""
    process = started(words, home)
    while not place.exists() and process.is_alive():
        time.sleep(0.002)
    process.join(share * seconds)
    process.kill()
    process.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("words", [RUN, SWEEP, DETECT, TRAIN], ids=lambda words: words[0])
def test_killed_anywhere_and_resumed_ends_in_the_same_bytes(digits_mlp: Path, tmp_path: Path, words) -> None:
    for path in digits_mlp.iterdir():
        shutil.copy(path, tmp_path)
    seconds = whole((*words, "--out", "whole"), tmp_path)
    wanted = {name: (tmp_path / "whole" / name).read_bytes() for name in KEPT[words[0]]}
    draw, place = random.Random(16), tmp_path / "out"
    for moment in range(MOMENTS):
        shutil.rmtree(place, ignore_errors=True)
        # Some are killed twice, the second time while they go on.
        for _ in range(1 + moment % 2):
            resumed = ("--resume",) if place.exists() else ()
            killed((*words, "--out", "out", *resumed), tmp_path, place, draw.random(), seconds)
        whole((*words, "--out", "out", "--resume"), tmp_path)
        assert {name: (place / name).read_bytes() for name in wanted} == wanted, moment
        left = {path.name for path in place.iterdir() if path.name not in ("run.json", "detect.json")}
        assert not [name for name in left if name.startswith(".") or name.endswith(".parts")], left


@pytest.mark.slow
def test_extending_that_is_killed_ends_in_the_same_bytes(digits_mlp: Path, tmp_path: Path) -> None:
    for path in digits_mlp.iterdir():
        shutil.copy(path, tmp_path)
    run = ("run", *MODEL, "--eps", "0.1", "--save-adversarial", "--attacks")
    first, second = "pgd(steps=5)", "pgd(steps=40),margin(steps=40)"
    whole((*run, f"{first},{second}", "--out", "whole"), tmp_path)
    whole((*run, first, "--out", "begun"), tmp_path)
    extend, place = (*run, second, "--out", "out", "--extend"), tmp_path / "out"
    shutil.copytree(tmp_path / "begun", place)
    seconds, draw = whole(extend, tmp_path), random.Random(16)
    for moment in range(MOMENTS):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "begun", place)
        killed(extend, tmp_path, place, draw.random(), seconds)
        whole(extend, tmp_path)
        for name in ("verdicts.csv", "adversarial.npz", "losses.csv"):
            assert (place / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), (moment, name)


@pytest.mark.slow
def test_a_check_that_is_killed_leaves_its_baseline(digits_mlp: Path, tmp_path: Path) -> None:
    for path in digits_mlp.iterdir():
        shutil.copy(path, tmp_path)
    whole(("run", *MODEL, "--eps", "0.1", "--attacks", "pgd(steps=20)", "--out", "a"), tmp_path)
    whole(("check", "--add", "a", "--baseline", "base.csv"), tmp_path)
    before, draw = (tmp_path / "base.csv").read_bytes(), random.Random(16)
    for words in (("check", "--baseline", "base.csv"), ("check", "--add", "a", "--baseline", "base.csv")):
        seconds = whole(words, tmp_path)
        for _ in range(MOMENTS // 2):
            killed(words, tmp_path, tmp_path, draw.random(), seconds)
            assert (tmp_path / "base.csv").read_bytes() == before
