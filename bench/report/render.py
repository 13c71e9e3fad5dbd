"""Tables as CSV, LaTeX, Markdown and text for a terminal; equal tables give equal bytes.

CSV keeps column names and every digit; fractions stay fractions. The other forms are for reading: percents with two
decimals, sizes with four digits, eps as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from bench.core.files import write_atomically

_HEADINGS = {
    "eps": "eps",
    "n": "n",
    "clean_accuracy": "clean %",
    "robust_accuracy": "robust %",
    "ci_low": "95% low",
    "ci_high": "95% high",
    "success_rate": "success %",
    "mean_size": "mean size",
    "median_size": "median size",
    "seconds": "time (s)",
    "pgd_accuracy": "PGD %",
    "so": "SO",
    "bibo": "BIBO",
    **{f"pgd{k}_{mode}_accuracy": f"PGD-{k} {mode} %" for k in (10, 50) for mode in ("targeted", "untargeted")},
    **{f"cw_{part}": f"C&W {part.replace('_', ' ')}" for part in ("n", "steps", "mean_size", "median_size")},
    **{f"ddn_{part}": f"DDN {part.replace('_', ' ')}" for part in ("n", "steps", "mean_size", "median_size")},
    "cw_success_rate": "C&W success %",
    "ddn_success_rate": "DDN success %",
    "match_rate": "match %",
    "pgd_steps": "PGD steps",
    "pgd_cosine_mean": "PGD cosine",
    "pgd_cosine_std": "PGD std",
    "clean_cosine_mean": "clean cosine",
    "clean_cosine_std": "clean std",
    "pgd_broken_cosine_mean": "PGD cosine, broken",
}
_SPARED = ("mean_size", "forwards", "backwards")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "ε": r"$\varepsilon$",
}


def csv(table: pd.DataFrame) -> str:
    """CSV with all digits; a missing number is an empty cell."""
    return table.to_csv(index=False, lineterminator="\n")


def readable(table: pd.DataFrame, written: Mapping[float, str] | None = None) -> pd.DataFrame:
    """The table as text for people, with headings; `written` gives eps as the user wrote it."""
    columns = {
        heading(name): [_cell(name, value, written or {}) for value in table[name]] for name in map(str, table.columns)
    }
    return pd.DataFrame(columns, dtype=object)


def heading(name: str) -> str:
    """The heading of a column."""
    if name in _HEADINGS:
        return _HEADINGS[name]
    stem, _, kind = name.rpartition("_")
    if stem and kind in ("published", "low", "high"):
        return f"{heading(stem)} {kind}"
    return name.replace("_accuracy", " %").replace("_", " ")


def is_fraction(name: str) -> bool:
    """Whether a column holds fractions, which are shown as percents."""
    return "accuracy" in name or "_rate" in name or name.startswith("ci_")


def latex_escaped(text: str) -> str:
    """Text with every character that LaTeX reads as a command replaced."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def latex(table: pd.DataFrame, caption: str, written: Mapping[float, str] | None = None) -> str:
    """A booktabs table with its caption; needs the package booktabs and nothing else."""
    shown = readable(table, written)
    kinds = "".join("r" if _is_number(table[name]) else "l" for name in table.columns)
    rows = [list(shown.columns), *shown.to_numpy().tolist()]
    head, *body = [" & ".join(latex_escaped(cell) for cell in row) + r" \\" for row in rows]
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{latex_escaped(caption)}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: pd.DataFrame, written: Mapping[float, str] | None = None) -> str:
    """A Markdown table."""
    shown = readable(table, written)
    sides = ["right" if _is_number(table[name]) else "left" for name in table.columns]
    rows = [[cell.replace("|", r"\|") for cell in row] for row in shown.to_numpy().tolist()]
    text = tabulate(rows, headers=list(shown.columns), tablefmt="pipe", disable_numparse=True, colalign=sides)
    return f"{text}\n"


def console(table: pd.DataFrame, written: Mapping[float, str] | None = None) -> str:
    """A narrow text table: without costs and mean sizes, and without a model and data that never change."""
    once = [name for name in ("model", "data") if name in table and table[name].nunique(dropna=False) < 2]
    table = table.drop(columns=[*once, *_SPARED], errors="ignore")
    shown = readable(table, written)
    columns = [[str(name), *shown[name]] for name in shown]
    widths = [max(map(len, cells)) for cells in columns]
    rules = ["-" * width for width in widths]
    cells = [
        [cell.rjust(width) if _is_number(table[name]) else cell.ljust(width) for cell in column]
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
) -> None:
    """Write NAME.csv and NAME.tex, each whole or not at all; LaTeX leaves out columns that the caption has `stated`.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    write_atomically(directory / f"{name}.csv", csv(table))
    shown = table.drop(columns=list(stated))
    write_atomically(directory / f"{name}.tex", latex(shown, caption, written))
    write_atomically(directory / f"{name}.md", markdown(table, written))


def _is_number(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _cell(name: str, value: Any, written: Mapping[float, str]) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, str):
        return value
    if name == "eps":
        return written.get(float(value)) or f"{value:.6g}"
    if is_fraction(name):
        return f"{100 * value:.2f}"
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
