"""The ratios of `speed.csv` as dots with whiskers on a logarithmic axis, with a mark where each target lies."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from bench.core.files import write_atomically
from benchmarks.speed_rows import LOWER_IS_BETTER
from benchmarks.speed_works import CASES

# Okabe and Ito's colours; robust models are filled, natural ones open.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "o", "s")
_STYLES = {case.model: (_COLOURS[at % 4], _MARKERS[at % 4], case.kind == "robust") for at, case in enumerate(CASES)}
_LINE, _TOP = 0.42, 1.5
_APART = 0.17


def draw(table: pd.DataFrame) -> Figure:
    """Two panels: how many times cheaper we are than others, and how far above the bare passes."""
    table = table[table["ratio"].notna()]
    lower = table["quotient"] == LOWER_IS_BETTER
    parts = [
        (table[~lower], "other / ours, CPU time (more is better)"),
        (table[lower], "ours / bare: CPU time above, memory below (less is better)"),
    ]
    tallest = max(1, *(len(_lines(part)) for part, _ in parts))
    figure = Figure(figsize=(12, _LINE * tallest + _TOP), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for ax, (part, title) in zip(axes, parts, strict=True):
        _panel(ax, part, title)
    seen = [model for model in _STYLES if model in set(table["model"])]
    marks = [_mark(model) for model in seen]
    marks.append(Line2D([], [], color="#222222", marker="|", markersize=11, markeredgewidth=1.8, linestyle="none"))
    names = [f"{model} ({'robust' if _STYLES[model][2] else 'natural'})" for model in seen]
    figure.legend(marks, [*names, "target"], loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def write(table: pd.DataFrame, path: Path) -> None:
    """Draw into a PNG file, whole or not at all."""
    content = io.BytesIO()
    draw(table).savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def _mark(model: str) -> Line2D:
    colour, marker, filled = _STYLES[model]
    face = colour if filled else "white"
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle="none")


def _lines(part: pd.DataFrame) -> list[tuple[str, str]]:
    """The lines of a panel from top to bottom: a work and whom it is against."""
    return list(dict.fromkeys(zip(part["work"], part["against"], strict=True)))


def _group(work: str) -> str:
    return work.partition("_")[0]


def _label(work: str, against: str) -> str:
    return f"{work.removeprefix('memory_')} · peak memory" if _group(work) == "memory" else f"{work} · {against}"


def _panel(ax: Any, part: pd.DataFrame, title: str) -> None:
    lines = _lines(part)
    for at, (work, against) in enumerate(lines):
        rows = part[(part["work"] == work) & (part["against"] == against)]
        models = [model for model in _STYLES if model in set(rows["model"])]
        for row in rows.to_dict("records"):
            _dot(ax, row, at + _APART * (models.index(row["model"]) - (len(models) - 1) / 2))
        if at and _group(lines[at - 1][0]) != _group(work):
            ax.axhline(at - 0.5, color="#c8c8c8", linewidth=0.8)
    ax.axvline(1, color="#888888", linewidth=1, zorder=1)
    ax.set_xscale("log")
    _ticks(ax, part)
    ax.set_yticks(range(len(lines)), [_label(*line) for line in lines], fontsize=9)
    ax.set_ylim(max(1, len(lines)) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title, fontsize=10, loc="left")
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _dot(ax: Any, row: Any, y: float) -> None:
    colour, marker, filled = _STYLES.get(row["model"], ("#555555", "D", True))
    reach = [[row["ratio"] - row["ratio_low"]], [row["ratio_high"] - row["ratio"]]]
    face = colour if filled else "white"
    style = {"color": colour, "marker": marker, "markerfacecolor": face, "markersize": 5, "zorder": 3}
    ax.errorbar([row["ratio"]], [y], xerr=reach, capsize=2, elinewidth=1.2, linestyle="none", **style)
    if pd.notna(row["target"]):
        ax.plot([row["target"]], [y], marker="|", color="#222222", markersize=8, markeredgewidth=1.6, zorder=2)


def _ticks(ax: Any, part: pd.DataFrame) -> None:
    """Numbers that can be read: 1, 2, 5 in each decade, or closer where everything lies within a factor of eight."""
    ends = pd.concat([part[name] for name in ("ratio_low", "ratio_high", "target")]).dropna().astype(float)
    low, high = min([1.0, *ends]), max([1.0, *ends])
    ax.set_xlim(low / 1.06, high * 1.06)
    near = high / low < 8
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 8) if near else (1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
