"""The main table of a run: `table.csv` and `table.tex`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.report import certified, measures, render
from bench.report import latex as latex_tables
from bench.store.runs import Run

_STATED = ("model", "data")
_SAME = ("norm", "eps", "n")
"""Columns that the caption says where all rows that have a value have the same."""
_READING = (
    "Accuracies and success rates in percent, limits of robust accuracy are Wilson's; sizes on [0, 1] images, over the "
    "broken ones alone; worst: the minimum over all attacks of the norm, image by image."
)
_ORDERS = {
    "exact": " An image broken at a smaller ε counts as broken at every larger one.",
    "bisect": " ε was bisected image by image, which assumes that a larger ε never saves an image.",
    "independent": " Every ε was run by itself.",
}
_CURVE = measures.SUMMARY[: measures.SUMMARY.index("ci_high") + 1]


def protocol(run: Run) -> str:
    """What was measured, in one line: model, data, number of images, threat model and seed."""
    record = run.record
    asked = measures.budgets(record)
    if len(asked) > 1:
        low, *_, high = asked.values()
        budget = f"ε from {low} to {high}"
    else:
        budget = f"ε = {next(iter(asked.values()))}" if asked else "smallest perturbations"
    about = ", ".join(part for part in (record.split, record.data_order) if part)
    split = f" ({about})" if about else ""
    parts = [
        f"model {record.model}",
        f"data {record.data}{split}",
        f"n = {len(record.indices)}{f' ({record.sample})' if record.sample else ''}",
        f"{record.norm} {budget}",
        f"seed {record.seed}",
        *([f"at most {record.max_passes} passes an image"] if record.max_passes else []),
    ]
    return ", ".join(parts)


def caption(run: Run) -> str:
    """The protocol of a run as a sentence."""
    stated = protocol(run)
    return f"{stated[:1].upper()}{stated[1:]}."


def notes(run: Run) -> str:
    """How to read a run's table, and what in it is doubtful."""
    lost = measures.flagged(run)
    counted = "1 row" if lost == 1 else f"{lost} rows"
    warning = f" {counted} met NaN or infinity: no evidence of robustness." if lost else ""
    unfinished = "" if run.record.finished else " The run is not finished."
    proven = "" if certified.stored(run) is None else f" {certified.NOTE}"
    return f"{_READING}{_ORDERS.get(run.record.eps_order or '', '')}{warning}{unfinished}{proven}"


def write(run: Run, directory: Path | None = None) -> pd.DataFrame:
    """Write `table.csv`, `table.tex` and `table.md` into the run's directory, or another, and return the table.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    place = directory or run.directory
    if place is None:
        raise ValueError("a run in memory has no directory: give one")
    return _write(run, place, "table", measures.summary(run))


def write_again(run: Run) -> None:
    """Write again, for people, the tables that lie beside a run: what was certified stands in them.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    if run.directory is None:
        return
    for name, again in (("table", write), ("curve", write_curve)):
        if (run.directory / f"{name}.tex").is_file():
            again(run, run.directory)


def write_curve(run: Run, directory: Path) -> pd.DataFrame:
    """Write a sweep's `curve.csv`, `curve.tex` and `curve.md`: accuracies at each eps, without sizes and costs.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    return _write(run, directory, "curve", measures.summary(run)[list(_CURVE)])


def latex(run: Run) -> str:
    """The run's table as `table.tex` holds it."""
    table = measures.summary(run)
    shown = certified.beside(run, table).drop(columns=_stated(table))
    return latex_tables.floats(shown, caption(run), notes(run), measures.budgets(run.record))


def _write(run: Run, place: Path, name: str, table: pd.DataFrame) -> pd.DataFrame:
    about = (caption(run), measures.budgets(run.record), _stated(table), notes(run))
    render.write(place, name, table, *about, read=certified.beside(run, table))
    return table


def _stated(table: pd.DataFrame) -> list[str]:
    """The columns that the caption says: the model, the data, and settings that never change."""
    return [*_STATED, *(name for name in _SAME if table[name].nunique() <= 1)]


def console(run: Run) -> str:
    """The run's table for a terminal, under one line that states the protocol."""
    table = render.console(certified.beside(run, measures.summary(run)), measures.budgets(run.record))
    return "\n".join([f"{protocol(run)}\n\n{table}", *certified.between(run), *run.record.remarks])


def sweep_console(run: Run) -> str:
    """A sweep for a terminal: a line an eps, a column of robust accuracy an attack, under the protocol.

    The worst of a single attack is that attack, and is left out.
    """
    written = measures.budgets(run.record)
    here = measures.summary(run).dropna(subset="eps")
    wide = here.pivot(index="eps", columns="attack", values="robust_accuracy")
    attacks = list(dict.fromkeys(here["attack"]))
    shown = wide[attacks[:1] if len(attacks) == 2 else attacks]
    wide = shown.rename(columns=lambda attack: f"{attack} robust_accuracy")
    return "\n".join([f"{protocol(run)}\n\n{render.console(wide.reset_index(), written)}", *certified.between(run)])
