"""A finished run's tables and curve, written, and printed with what an audit sees."""

from __future__ import annotations

from bench.report import audit, curves, run_table
from bench.store.runs import Run


def of_run(made: Run) -> str:
    """Write the table and curve of a run; what to print."""
    run_table.write(made)
    return _ended(made, run_table.console(made))


def of_sweep(made: Run) -> str:
    """Write the tables and curve of a sweep over eps; what to print."""
    run_table.write(made)
    if made.directory:
        run_table.write_curve(made, made.directory)
    return _ended(made, run_table.sweep_console(made))


def _ended(made: Run, table: str) -> str:
    if made.directory:
        curves.write(made, made.directory / "curve.png")
    return "\n".join([table, "", audit.report(made), "", str(made.directory)])
