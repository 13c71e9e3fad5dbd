"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
