"""Tables as CSV, LaTeX, Markdown and text for a terminal; equal tables give equal bytes.

CSV keeps column names and every digit; fractions stay fractions. The other forms are for reading: percents with two
decimals, sizes with four digits, eps as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from bench.core.files import write_atomically
from bench.core.text import without_tags
from bench.report import latex
from bench.report.columns import cell, heading, is_number

_SPARED = ("mean_size", "forwards", "backwards")


def csv(table: pd.DataFrame) -> str:
    """CSV with all digits; a missing number is an empty cell."""
    return table.to_csv(index=False, lineterminator="\n")


def readable(
    table: pd.DataFrame, written: Mapping[float, str] | None = None, headings: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The table as text for people; `written` gives eps as the user wrote it, `headings` what names do not say."""
    columns = {
        heading(name, headings): [cell(name, value, written or {}) for value in table[name]]
        for name in map(str, table.columns)
    }
    return pd.DataFrame(columns, dtype=object)


def markdown(
    table: pd.DataFrame, written: Mapping[float, str] | None = None, headings: Mapping[str, str] | None = None
) -> str:
    """A Markdown table."""
    shown = readable(table, written, headings)
    sides = ["right" if is_number(table[name]) else "left" for name in table.columns]
    rows = [[_in_cell(text) for text in row] for row in shown.to_numpy().tolist()]
    text = tabulate(rows, headers=list(shown.columns), tablefmt="pipe", disable_numparse=True, colalign=sides)
    return f"{text}\n"


def _in_cell(text: str) -> str:
    """A text that ends no cell, and begins no tag and no link."""
    return without_tags(text).replace("|", r"\|").replace("](", r"]\(")


def console(
    table: pd.DataFrame, written: Mapping[float, str] | None = None, headings: Mapping[str, str] | None = None
) -> str:
    """A narrow text table: without costs and mean sizes, and without a model and data that never change."""
    once = [name for name in ("model", "data") if name in table and table[name].nunique(dropna=False) < 2]
    table = table.drop(columns=[*once, *_SPARED], errors="ignore")
    shown = readable(table, written, headings)
    columns = [[str(name), *shown[name]] for name in shown]
    widths = [max(map(len, cells)) for cells in columns]
    rules = ["-" * width for width in widths]
    cells = [
        [text.rjust(width) if is_number(table[name]) else text.ljust(width) for text in column]
        for name, column, width in zip(table.columns, columns, widths, strict=True)
    ]
    head, *body = zip(*cells, strict=True)
    return "\n".join("  ".join(line).rstrip() for line in (head, rules, *body))


def write(
    directory: Path,
    name: str,
    table: pd.DataFrame,
    caption: str,
    written: Mapping[float, str] | None = None,
    stated: Sequence[str] = (),
    notes: str = "",
    headings: Mapping[str, str] | None = None,
    read: pd.DataFrame | None = None,
) -> None:
    """Write NAME.csv, NAME.tex and NAME.md, each whole or not at all.

    Args:
        directory: Where to.
        name: The stem of the files.
        table: The table.
        caption: What it shows: the caption in LaTeX.
        written: Every eps as the user wrote it.
        stated: Columns that the caption says, which LaTeX leaves out.
        notes: How to read it, below the table in LaTeX.
        headings: Headings of columns that their names do not make.
        read: What people read in place of the table, in LaTeX and Markdown.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    read = table if read is None else read
    write_atomically(directory / f"{name}.csv", csv(table))
    shown = read.drop(columns=list(stated))
    write_atomically(directory / f"{name}.tex", latex.floats(shown, caption, notes, written, headings))
    write_atomically(directory / f"{name}.md", markdown(read, written, headings))
