"""Tables in LaTeX that fit a page: limits in the cells, notes below, wide tables in parts, long ones in floats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from bench.report.captions import settings
from bench.report.columns import is_missing
from bench.report.latex_columns import LINE, LONGEST, Group, groups, text_width
from bench.report.latex_parts import Part, pages, parts

_ESCAPED = {
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
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "\N{NO-BREAK SPACE}": "~",
}
_NOTE = 96
"""About how many letters a line of notes holds."""
_IN_BRACKETS = "In parentheses"
"""Notes with these words say themselves what stands behind numbers."""
_EXPONENT = re.compile(r"(-?[\d.]+)e([+-])0*(\d+)")


def escaped(text: str) -> str:
    """Text with every character that LaTeX reads as a command replaced."""
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def floats(
    table: pd.DataFrame,
    caption: str,
    notes: str = "",
    written: Mapping[float, str] | None = None,
    headings: Mapping[str, str] | None = None,
) -> str:
    """A table as one or more floats that fit a page, with the caption above and the notes below.

    Limits stand in the cells and published numbers beside measured ones. Settings that are the same for all rows, for a
    data set or an attack are told in the notes. A first line names the packages that the text needs.

    Args:
        table: The table.
        caption: What it shows, in at most four lines.
        notes: How to read it.
        written: Every eps as the user wrote it.
        headings: Headings of columns that their names do not make.
    """
    known = settings(table, written or {}, headings)
    columns = groups(table.drop(columns=list(known)), written or {}, headings)
    cut = parts(columns, len(table))
    told = [notes, *_reading(table, notes, columns, cut), *(f"{note}." for note in known.values())]
    text = " ".join(note for note in told if note.strip("."))
    needed = "booktabs,graphicx" if any(part.is_too_wide for part in cut) else "booktabs"
    lines = [rf"% Needs \usepackage{{{needed}}}."]
    there = pages(cut, len(text) // _NOTE + 2)
    for number, page in enumerate(there):
        lines += _float(page, caption, text if number == len(there) - 1 else "", is_first=not number)
    return "\n".join(lines) + "\n"


def _reading(table: pd.DataFrame, notes: str, columns: Sequence[Group], cut: Sequence[Part]) -> Iterator[str]:
    """How the cells are to be read, and what was done to fit the page."""
    if any(group.heading for group in columns):
        yield "Ours: measured here; paper: as published."
    if any(name.endswith("_low") for name in table.columns) and _IN_BRACKETS not in notes:
        yield f"{_IN_BRACKETS}: 95% limits."
    if "model" in table.columns and len(table):
        missing = [is_missing(model) for model in table["model"]]
        if all(missing):
            yield "Nothing was measured yet."
        elif any(missing):
            yield "A row without a model has only the published numbers."
    shown = Counter(part.groups for part in cut for _ in part.rows)
    if any(count < len(table) for count in shown.values()):
        yield "Parts after the first have the rows with a number in them."
    if any(part.is_too_wide for part in cut):
        yield "Reduced to the width of the text."


def _float(page: Sequence[Part], caption: str, notes: str, is_first: bool) -> Iterator[str]:
    yield r"\begin{table}"
    if not is_first:
        yield r"\addtocounter{table}{-1}"
    yield r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    yield rf"\caption{{{escaped(caption)}{'' if is_first else ' (continued)'}}}"
    for number, part in enumerate(page):
        if number:
            yield r"\par\medskip"
        yield from _tabular(part)
    if notes:
        yield rf"\par\smallskip\parbox{{\linewidth}}{{\raggedright {escaped(notes)}}}"
    yield r"\end{table}"


def _tabular(part: Part) -> Iterator[str]:
    columns = [column for group in part.groups for column in group.columns]
    if part.is_too_wide:
        yield r"\resizebox{\linewidth}{!}{%"
    kinds = "".join("r" if column.is_number else "l" for column in columns)
    yield rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}"
    yield r"\toprule"
    yield from _head(part.groups)
    yield r"\midrule"
    before = None
    for row in part.rows:
        if part.data and part.data[row] != before:
            before = part.data[row]
            yield rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{escaped(before)}}}}} \\"
        yield " & ".join(_cell(column.cells[row]) for column in columns) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}" + ("}" if part.is_too_wide else "")


def _head(groups: Sequence[Group]) -> Iterator[str]:
    """One or two lines of headings; what stands under a common heading has a rule above it."""
    top, bottom, rules, place = [], [], [], 1
    for group in groups:
        last = place + len(group.columns) - 1
        if group.heading:
            top.append(rf"\multicolumn{{{len(group.columns)}}}{{c}}{{{escaped(group.heading)}}}")
            bottom += [column.heading for column in group.columns]
            rules.append(rf"\cmidrule(lr){{{place}-{last}}}")
        else:
            first, second = group.columns[0].lines
            top.append(escaped(first))
            bottom.append(second)
        place = last + 1
    if any(top):
        yield " & ".join(top) + r" \\"
    if rules:
        yield "".join(rules)
    yield " & ".join(map(escaped, bottom)) + r" \\"


def _cell(text: str) -> str:
    """A cell; a long one may break after its punctuation."""
    if exponent := _EXPONENT.fullmatch(text):
        digits, sign, power = exponent.groups()
        return rf"${digits}\cdot 10^{{{sign.strip('+')}{power}}}$"
    if text_width(text) <= LONGEST:
        return escaped(text)
    breakable = re.sub(r"([,(/+=]|\\_)", r"\1\\allowbreak{}", escaped(text))
    return rf"\parbox[t]{{{LINE / 2:g}em}}{{\raggedright {breakable}\strut}}"
