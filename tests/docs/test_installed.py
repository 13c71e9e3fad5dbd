"""The attack of one's own that the documentation shows, run with an installed copy and no checkout in sight."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.support.checkout import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what a wheel of this checkout installs."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(ROOT)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no wheel can be built here: {done.stderr.strip().splitlines()[-1]}")
    return place


@pytest.mark.slow
def test_the_plug_in_of_the_documentation_runs(installed: Path, tmp_path: Path) -> None:
    example = next(block for block in blocks(ROOT / "docs" / "own-attack.md") if block.title == "blur.py")
    (tmp_path / "blur.py").write_text(example.text)
    words = ["run", "--model", "mat_digits", "--attacks", "blur.py:Blur(width=5)", "-n", "20", "--out", "run"]
    # -P keeps the working folder off the path, and the copy goes before the checkout that this environment knows.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "blur.py:Blur(width=5)" in done.stdout, done.stderr
    where = [sys.executable, "-P", "-c", "import bench; print(bench.__file__)"]
    shown = subprocess.run(
        where, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True
    )
    assert Path(shown.stdout.strip()).is_relative_to(installed)
