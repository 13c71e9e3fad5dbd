"""One image's verdict does not depend on its batch, on interruptions, on processes, or on the order of work."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.core import registry
from bench.evaluation import schedule
from bench.evaluation.request import Request, subject
from bench.evaluation.run import execute, prepare
from bench.models import memory_format
from bench.ops import losses, passes
from bench.store.runs import frame
from tests.support.checkout import ROOT

ATTACKS = (
    "noise,pgd(steps=6,restarts=2),cw(searches=3,steps=20),ddn(steps=12),fmn(steps=12),deepfool,alma(steps=12),"
    "adaptive(steps=6)"
)
REQUEST = Request("tiny", ATTACKS, n=70, batch_size=16)


@pytest.fixture
def home(digits_mlp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(digits_mlp)
    return digits_mlp


def verdicts(request: Request, directory: Path, resume: bool = False) -> bytes:
    with prepare(request, subject(request)) as prepared:
        execute(prepared, directory, resume)
    return (directory / "verdicts.csv").read_bytes()


def sized(size: int) -> Request:
    return Request("tiny", ATTACKS, n=70, batch_size=size)


def test_any_batch_size_gives_the_same_bytes(home, tmp_path):
    alone = verdicts(sized(1), tmp_path / "alone")
    assert verdicts(sized(64), tmp_path / "batched") == alone
    assert verdicts(sized(37), tmp_path / "odd") == alone


@pytest.mark.parametrize("arch", ["digits_cnn", "small_cnn", "vgg11", "cnn_a", "resnet18"])
def test_a_row_is_the_same_bits_in_any_batch(arch):
    """The kernels of this machine keep to what `passes` pads for."""
    model = registry.architectures[arch]().eval().requires_grad_(False)
    shape = {"digits_cnn": (1, 8, 8), "small_cnn": (1, 28, 28)}.get(arch, (3, 32, 32))
    x, y = torch.rand(40, *shape), torch.arange(40) % 10
    with memory_format.suited(model, x[:16]):
        _, logits, gradient = passes.input_gradient(losses.ce, model, x, y)
        for count in (1, 2, 3, 5, 7, 8, 11, 13, 16, 17, 22, 31, 39):
            _, part, slope = passes.input_gradient(losses.ce, model, x[:count], y[:count])
            assert torch.equal(part, logits[:count]) and torch.equal(slope, gradient[:count]), count


def test_a_part_of_the_images_gives_the_same_rows(home, tmp_path):
    few = Request("tiny", ATTACKS, n=11, batch_size=16)
    verdicts(REQUEST, tmp_path / "all")
    verdicts(few, tmp_path / "few")
    whole = pd.read_csv(tmp_path / "all/verdicts.csv", dtype=str)
    part = pd.read_csv(tmp_path / "few/verdicts.csv", dtype=str)
    pd.testing.assert_frame_equal(whole[whole["index"].astype(int) < 11].reset_index(drop=True), part)


def test_a_run_torn_anywhere_resumes_to_the_same_bytes(home, tmp_path):
    undisturbed = verdicts(REQUEST, tmp_path / "whole")
    for cut in (5, 150, len(undisturbed) // 3, len(undisturbed) - 3):
        place = tmp_path / f"cut-{cut}"
        verdicts(REQUEST, place)
        (place / "verdicts.csv").write_bytes(undisturbed[:cut])
        assert verdicts(REQUEST, place, resume=True) == undisturbed


def _chunks_of(half: int) -> list:
    request = REQUEST
    with prepare(request, subject(request)) as prepared:
        work = schedule.chunks(prepared.job, prepared.attacks)[half::2]
        return [row for chunk in work for row in schedule.perform(prepared.job, chunk).verdicts]


def test_two_processes_make_the_same_rows_as_one(home, tmp_path):
    verdicts(REQUEST, tmp_path / "one")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        rows = [row for half in pool.map(_chunks_of, (1, 0)) for row in half]
    order = ["attack", "norm", "eps", "index"]
    both = frame(rows).sort_values(order, ignore_index=True)
    alone = pd.read_csv(tmp_path / "one/verdicts.csv").sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(both, alone, check_dtype=False)


STOPPED = Request("tiny", "noise(draws=3),pausing.py:Pausing(),ddn(steps=30)", n=48, batch_size=8)
PAUSING = """
import os, time
from dataclasses import dataclass
from typing import ClassVar

calls = []

@dataclass(frozen=True)
class Pausing:
    needs: ClassVar = ()
    norms: ClassVar = ("linf",)
    minimal: ClassVar = False

    def __call__(self, model, x, y, budget, keys):
        calls.append(len(x))
        if len(calls) == 3 and "PAUSE" in os.environ:
            time.sleep(300)
        return x
"""


@pytest.fixture(scope="module")
def undisturbed(digits_mlp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed")
    (digits_mlp / "pausing.py").write_text(PAUSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(digits_mlp)
        verdicts(STOPPED, place, resume=True)
    return place


def _started(home: Path, out: Path) -> subprocess.Popen[bytes]:
    """The same run in a process of its own, which pauses in an attack after its first rows."""
    words = ["--model", STOPPED.model, "--attacks", STOPPED.attacks, "-n", "48", "--batch-size", "8", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAUSE": "yes"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "run", *words],
        cwd=home,
        env=environment,
        stderr=subprocess.PIPE,
        # A shell's background jobs ignore it, and so would what they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None:
        path = out / "verdicts.csv"
        if path.exists() and path.read_bytes().count(b"\n") > 50:
            break
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_stopped_in_mid_batch_resumes_to_the_same_files(home, undisturbed, tmp_path, how):
    stopped = _started(home, tmp_path)
    assert stopped.poll() is None, "it finished before it could be stopped"
    stopped.send_signal(how)
    _, said = stopped.communicate(timeout=60)
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert len(said.decode().strip().splitlines()) == 1 and b"--resume" in said
    assert 50 < (tmp_path / "verdicts.csv").read_bytes().count(b"\n") < 145
    assert verdicts(STOPPED, tmp_path, resume=True) == (undisturbed / "verdicts.csv").read_bytes()
    assert json.loads((tmp_path / "run.json").read_text())["finished"]
