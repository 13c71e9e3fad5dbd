"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.cli import main
from bench.core import files
from bench.core.registry import architectures
from bench.data import loading
from bench.ops import losses
from tests.support.checkout import ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A directory that `--data-dir` takes, with the real MNIST and CIFAR-10."""
    if given := os.environ.get("BENCH_DATA"):
        return Path(given)
    unpack, home = ROOT.parent / "shared" / "data" / "unpack", ROOT / ".cache" / "data"
    if not unpack.is_file():
        pytest.skip("no real data: set BENCH_DATA to a directory with mnist/ and cifar10/")
    subprocess.run([sys.executable, str(unpack), str(home)], check=True, stdout=subprocess.DEVNULL)
    return home


@pytest.fixture(scope="session")
def digits_mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `checkpoints.toml` that names `tiny`, a digits classifier trained here in a moment."""
    home = tmp_path_factory.mktemp("tiny")
    train = loading.load("digits", "train")
    torch.manual_seed(0)
    model = architectures["mlp"](hidden=(32,), image=8)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        losses.cross_entropy(model(train.images), train.labels).mean().backward()
        optimiser.step()
    save_file(model.state_dict(), home / "tiny.safetensors")
    sha256 = files.sha256_of(home / "tiny.safetensors")
    stanza = f"""
[tiny]
arch = "mlp"
args = {{ hidden = [32], image = 8 }}
weights = "tiny.safetensors"
sha256 = "{sha256}"
data = "digits"
defense = "natural"
trained_for = {{ norm = "linf", eps = "0.1" }}
trained_with = {{ kl = {{ beta = 2.0 }} }}
"""
    (home / "checkpoints.toml").write_text(stanza)
    return home


@dataclass(frozen=True)
class Said:
    """What a command did: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def bench(
    tmp_path: Path, digits_mlp: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run the command line in a fresh folder whose registry knows `tiny`."""
    for path in digits_mlp.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main.entry()
        out, err = capfd.readouterr()
        code = left.value.code
        return Said(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests that draw from torch's own stream draw the same in any order and process."""
    torch.manual_seed(0)
