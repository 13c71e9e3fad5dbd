"""What the figures share: empty sheets, colours, frames, legends, files."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from bench.core.files import write_atomically

NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
# Okabe and Ito's colours without black and without yellow, too faint on white.
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Paul Tol's "muted" scheme: ten colours that stay apart for the colour-blind; the pale grey comes last.
CLASSES = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#BBBBBB"),
)


def sheet(width: float, height: float) -> Figure:
    """An empty figure of so many inches that belongs to no window."""
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    content = io.BytesIO()
    for text in figure.findobj(Text):
        # A name is shown as it is; matplotlib's own numbers are written when it draws.
        text.set_parse_math("$" not in text.get_text())
    # Without the software's name, equal figures are equal files.
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())


def in_255ths(written: str) -> bool:
    """Whether an eps was written over 255."""
    return written.endswith("/255") or written in ("0", "0.0")


def frame(ax: Any) -> None:
    """A pale grid below the lines, and no box."""
    ax.grid(color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def caption(figure: Figure, text: str) -> None:
    """A small line above the panels that says what was measured."""
    figure.suptitle(text, fontsize=9, x=0.01, ha="left", color="#444444")


def band(ax: Any, points: pd.DataFrame, unit: float = 1.0, **style: Any) -> None:
    """Robust accuracy in % over eps, and its 95 % limits as a band of the same colour."""
    eps = unit * points["eps"]
    ax.fill_between(eps, 100 * points["ci_low"], 100 * points["ci_high"], color=style["color"], alpha=0.1, linewidth=0)
    ax.plot(eps, 100 * points["robust_accuracy"], **style)


def colours(names: Iterable[Any]) -> list[str]:
    """The colour of each class number."""
    return [CLASSES[int(name) % len(CLASSES)] for name in names]


def class_marks(names: Iterable[Any], marker: str = "o") -> list[Line2D]:
    """The legend of some classes, in order."""
    seen = sorted({int(name) for name in names})
    return [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=str(name))
        for name, colour in zip(seen, colours(seen), strict=True)
    ]


def hill(ax: Any, points: pd.DataFrame, top: float, names: tuple[str, str]) -> None:
    """Cross-entropy in nats (columns `along`, `across`, `loss`) as a surface up to `top`, over two named directions."""
    loss = points.pivot(index="along", columns="across", values="loss")
    along, across = loss.index.to_numpy(), loss.columns.to_numpy()
    x, y = along[:, None] + 0 * across[None, :], 0 * along[:, None] + across[None, :]
    ax.plot_surface(x, y, loss.to_numpy(), cmap="viridis", vmin=0, vmax=top, linewidth=0, antialiased=True)
    ax.set_zlim(0, top or 1)
    ax.view_init(elev=28, azim=-125)
    ax.set_xlabel(names[0], fontsize=7, labelpad=-4)
    ax.set_ylabel(names[1], fontsize=7, labelpad=-4)
    ax.tick_params(labelsize=6, pad=-2)
    ax.locator_params(nbins=5)
