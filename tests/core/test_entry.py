"""The door of both command lines: every fault is one printable line and an exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bench.cli.main import entry as bench_entry
from bench.core.entry import enter
from bench.core.types import UserError
from defenses.__main__ import entry as defenses_entry
from tests.support.checkout import ROOT


class OtherStatusError(UserError):
    status = 1


def left(fault: BaseException | None, capsys: pytest.CaptureFixture[str], code: object = None) -> tuple[object, str]:
    @click.command()
    def command() -> object:
        if fault is not None:
            raise fault
        return code

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["program"])
        enter(command, "program")
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (UserError("thing: fault: remedy"), 2, "program: thing: fault: remedy\n"),
        (OtherStatusError("diverged"), 1, "program: diverged\n"),
        (UserError("a\x1b[31m\nb"), 2, "program: a\\x1b[31m b\n"),
        (click.ClickException("two\nlines"), 2, "program: two lines\n"),
        (KeyboardInterrupt(), 130, "program: interrupted: what was written stays, and --resume continues it\n"),
        (SystemExit(0), 2, "program: a file or module that was named asked Python to exit: name one that does not\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x"),
            2,
            "program: x: No such file or directory: check the path, its permissions and the space on the disk\n",
        ),
    ],
)
def test_a_fault_is_one_line(fault, status, said, capsys) -> None:
    code, text = left(fault, capsys)
    assert (code, text.removeprefix("\n")) == (status, said)  # click leaves the line of an interrupted progress bar


def test_an_unexpected_fault_says_where_and_shows_its_trace_only_if_asked(capsys, monkeypatch) -> None:
    status, said = left(ZeroDivisionError("x\ny"), capsys)
    assert status == 2 and said.count("\n") == 1
    assert said.startswith("program: internal error, please report it: ZeroDivisionError: x y at ")
    monkeypatch.setenv("BENCH_TRACEBACK", "1")
    assert "Traceback" in left(ZeroDivisionError("x"), capsys)[1]


def test_what_a_command_returns_is_its_status(capsys) -> None:
    assert left(None, capsys)[0] == 0
    assert left(None, capsys, 3)[0] == 3


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("defenses", ["train", "\udcff"]),
        ("defenses", ["train", "x" * 5000]),
        ("defenses", ["train", "natural_digits", "--set", "train.lr=" + "9" * 5000]),
        ("defenses", ["train", "natural_digits", "--set", "train.milestones=" + "[" * 5000]),
        ("defenses", ["adopt", "nowhere"]),
        ("defenses", ["adopt", "x" * 5000]),
        ("defenses", ["adept"]),
        ("bench", ["audit", "x" * 5000]),
        ("bench", ["run", "--model", "mat_digits", "-n", "4", "--attacks", "x" * 1500 + ".py:A"]),
    ],
    ids=range(9),
)
def test_bad_input_is_one_line_and_exit_2(program, arguments, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as stop:
        {"bench": bench_entry, "defenses": defenses_entry}[program]()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and said.startswith(f"{program}: ")
    assert "internal error" not in said


def run(out: object) -> subprocess.CompletedProcess[str]:
    code = (
        "import click\nfrom bench.core.entry import enter\n"
        "@click.command()\ndef command():\n    click.echo('text')\nenter(command, 'program')"
    )
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, text=True, env=here, check=False, stdout=out, stderr=subprocess.PIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        done = run(full)
    assert done.returncode == 2 and "No space left on device" in done.stderr and done.stderr.count("\n") == 1


def test_a_reader_that_left_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(writer)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""
