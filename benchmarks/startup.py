"""What starting costs: help, lists, and a run up to its first forward pass, beside Python and torch alone.

    python -m benchmarks.startup            # results/speed/startup.csv; a minute on a quiet core

Seconds of CPU of whole processes (a run: of the process up to its first forward pass), medians of several, in turn.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import click

_CLI = "from bench.cli.main import main; main.main({words!r}, standalone_mode=False)"
_FIRST_PASS = """
import os, sys, time
import torch.nn
forward = torch.nn.Module.__call__
def first(self, *images, **rest):
    os.write({pipe}, str(time.process_time()).encode())
    os._exit(0)
torch.nn.Module.__call__ = first
from bench.cli.main import main
main.main({words!r}, standalone_mode=False)
"""
_COMMANDS = {
    "bench --help": ["--help"],
    "bench list models": ["list", "models"],
    "bench list attacks": ["list", "attacks"],
    "bench list data": ["list", "data"],
    "bench list tables": ["list", "tables"],
}
_RUN = ["run", "--model", "mat_digits", "--attacks", "pgd,cw,ddn,adaptive"]


def spent(code: str) -> float:
    """Seconds of CPU of a Python process that runs some code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def to_first_pass() -> float:
    """Seconds of CPU of `bench run` until the model sees its first image."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        code = _FIRST_PASS.format(pipe=writing, words=[*_RUN, "--out", str(Path(folder) / "run")])
        subprocess.run([sys.executable, "-c", code], check=True, pass_fds=[writing], stdout=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as answer:
        return float(answer.read())


@click.command()
@click.option("--repeats", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/speed/startup.csv"), show_default=True)
def main(repeats: int, out: Path) -> None:
    sides = {"python -c pass": lambda: spent("pass"), "import torch": lambda: spent("import torch")}
    sides |= {name: lambda words=words: spent(_CLI.format(words=words)) for name, words in _COMMANDS.items()}
    sides["bench run, to the first forward pass"] = to_first_pass
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(side())
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["what", "cpu_seconds", "lowest", "highest", "times_import_torch"])
        torch = median(times["import torch"])
        for name, seconds in times.items():
            middle = median(seconds)
            row = [name, f"{middle:.3f}", f"{min(seconds):.3f}", f"{max(seconds):.3f}", f"{middle / torch:.2f}"]
            table.writerow(row)
            click.echo("  ".join(row))


if __name__ == "__main__":
    main()
