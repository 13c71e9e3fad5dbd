"""What a reader takes of memory and time, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import ROOT

_CHILD = """
import resource, sys
from bench.core.types import UserError
{setup}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    {call}
    said = "read"
except UserError as fault:
    said = str(fault)
print(peak() - before, said)
"""


def read_apart(home: Path, setup: str, call: str, seconds: float = 60) -> tuple[int, str]:
    """How many MiB of memory a call took at its peak beyond its imports, and what it was refused with, or "read"."""
    code = _CHILD.format(setup=setup, call=call)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stderr[-800:]
    taken, _, said = done.stdout.strip().partition(" ")
    return int(taken), said
