"""The examples run as their readers run them, and say what they promise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import warm
from tests.support.checkout import ROOT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_own_model_and_attack(home):
    code, said = warm.run("python examples/own_model_and_attack.py", home)
    assert code == 0, said
    assert "own_model_and_attack.py:Brightness" in said and "latent" in said and "quote this:" in said


def test_its_command_line_finds_the_same(home):
    file = "examples/own_model_and_attack.py"
    command = f"bench run --model {file}:load --data digits -n 40 --eps 0.1 --attacks {file}:Brightness,fgsm --out own"
    code, said = warm.run(command, home)
    assert code == 0 and f"{file}:Brightness" in said, said


def test_notebook(home):
    code, said = warm.run("python examples/notebook.py", home)
    assert code == 0, said
    assert "robust in {'both':" in said and r"\toprule" in said
    assert (home / "accuracy_over_eps.png").exists()


def test_gate_holds_a_checkpoint_to_its_numbers(home):
    def gate() -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "examples/ci_gate.sh", "baseline.csv"]
        return subprocess.run(
            command, cwd=home, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )

    first = gate()
    assert first.returncode == 0 and "commit it" in first.stdout, first.stderr
    # A checkpoint that was trained for too short a time.
    file = home / "examples" / "own_model_and_attack.py"
    file.write_text(file.read_text().replace("EPOCHS = 60", "EPOCHS = 6"))
    second = gate()
    assert second.returncode == 1 and "clean fell" in second.stdout, second.stdout + second.stderr
    assert "<failure" in (home / "baseline.junit.xml").read_text()
