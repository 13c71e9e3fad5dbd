"""Two processes and one folder of a run: real processes, because a lock is between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.types import UserError
from bench.store import runs
from bench.store.writer import Writer
from tests.support.checkout import ROOT
from tests.support.stored_runs import entry, record, rows

RECORD = record(attacks=(entry("pgd"),), indices=tuple(range(4)), eps=0.3)
HOLD = """
import sys
from pathlib import Path
from bench.store.writer import Writer
from tests.store.test_lock import RECORD
from tests.support.stored_runs import rows
with Writer.resume(Path(sys.argv[1]), RECORD) as writer:
    writer.append(rows("pgd", 1, n=2))
    print("holding", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written two of four rows and holds the folder until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "holding\n"
            yield other
        finally:
            other.kill()


@pytest.mark.parametrize("start", [Writer.create, Writer.resume])
def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path, start) -> None:
    folder = tmp_path / "run"
    with other_process(folder) as other:
        before = (folder / "verdicts.csv").read_bytes()
        with pytest.raises(UserError, match=r"is being written by another process: wait until it ends, or") as caught:
            start(folder, RECORD)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
        assert (folder / "verdicts.csv").read_bytes() == before
        assert len(runs.load(folder).verdicts) == 2  # reading is free
        other.communicate("go on\n", timeout=60)
    assert {path.name for path in folder.iterdir()} == {"run.json", "verdicts.csv"}
    with Writer.resume(folder, RECORD) as writer:
        writer.append(rows("pgd", 1, n=4)[2:])
        assert runs.missing(writer.finish()) == 0


def test_a_process_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    with other_process(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait(60)
    with Writer.resume(tmp_path, RECORD) as writer:
        assert len(writer.done()) == 2
        writer.append(rows("pgd", 1, n=4)[2:])
        writer.finish()
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "verdicts.csv"}


def test_a_writer_that_was_refused_or_failed_leaves_no_lock(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as first:
        first.append(rows("pgd", 1, n=4))
        with pytest.raises(UserError, match="another process"):
            Writer.resume(tmp_path, RECORD)
        first.finish()
    with pytest.raises(UserError, match="seed 0, not 7"):
        Writer.resume(tmp_path, replace(RECORD, seed=7))
    with pytest.raises(UserError, match="holds another run"):
        Writer.create(tmp_path, RECORD)
    with pytest.raises(RuntimeError), Writer.resume(tmp_path, RECORD):
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "verdicts.csv"}
    Writer.resume(tmp_path, RECORD).close()


def test_a_new_run_waits_for_no_lock_of_another_folder(tmp_path: Path) -> None:
    with other_process(tmp_path / "a"):
        Writer.create(tmp_path / "b", RECORD).close()
