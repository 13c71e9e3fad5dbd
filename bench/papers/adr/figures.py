"""Figures of Adversary Divergence Reduction (ADR): loss surfaces and the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.core.registry import figures
from bench.core.types import CLEAN
from bench.papers.adr.systems import is_default, kind
from bench.report import canvas
from bench.report.model_runs import Dossier, dossiers
from bench.store.record import Record
from bench.store.runs import Run

_ORDER = ("ADV", "TRADES", "ADR+LC", "ADR+LC/GB", "ADR-ADV", "ADR-TRADES")
_DIRECTIONS = ("along gradient sign", "across")
_SPACES = {"input": "over the input", "latent": "over the latent layer"}


@dataclass(frozen=True)
class _Shown:
    """A model with what a probe found."""

    title: str
    record: Record
    points: pd.DataFrame


@figures.register("adr/1")
def figure_1(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Loss surfaces around a fooled example, from the probe `surface`.

    A figure a data set, a row a model; cross-entropy and the predicted class, over the input and over the latent layer.
    """
    return _surfaces(runs, "fooled")


@figures.register("adr/2")
def figure_2(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Loss surfaces around an unfooled example, from the probe `surface`.

    A figure a data set, a row a model; cross-entropy and the predicted class, over the input and over the latent layer.
    """
    return _surfaces(runs, "unfooled")


@figures.register("adr/3")
def figure_3(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """The latent space by t-SNE, from the probe `embedding`.

    A figure a data set, a panel a model: dots are clean images coloured by class, black triangles negative adversarial
    examples (attacked in vain; `embedding(negative=300)`), hollow ones those that the attack broke.
    """
    return {name: _embeddings(name, shown, by="label") for name, shown in _probed(runs, "embedding").items()}


@figures.register("adr/4")
def figure_4(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Entropy over the latent space by t-SNE, from the probe `embedding`.

    A figure a data set, a panel a model; dots are clean images, triangles those attacked in vain, and upside down those
    that the attack broke.
    """
    return {name: _embeddings(name, shown, by="entropy") for name, shown in _probed(runs, "embedding").items()}


def _probed(runs: Sequence[Run], probe: str) -> dict[str, list[_Shown]]:
    """The models of the defense `adr` that a probe has looked at, by data set, in the paper's order."""
    result: dict[str, list[tuple[int, _Shown]]] = {}
    for dossier in dossiers(runs):
        row, probed = kind(dossier), dossier.probe(probe)
        if row is not None and probed is not None and len(probed):
            rank = _ORDER.index(row.system) if row.system in _ORDER else len(_ORDER)
            shown = _Shown(_title(dossier, row.system, row.cut), dossier.record, probed)
            result.setdefault(dossier.record.data, []).append((rank, shown))
    return {data: [part for _, part in sorted(parts, key=lambda part: part[0])] for data, parts in result.items()}


def _title(dossier: Dossier, system: str, cut: str) -> str:
    return system if is_default(dossier.record) else f"{system}, cut {cut}"


def _surfaces(runs: Sequence[Run], example: str) -> dict[str, Figure]:
    result = {}
    for data, shown in _probed(runs, "surface").items():
        around = [replace(model, points=model.points[model.points["example"] == example]) for model in shown]
        if probed := [model for model in around if len(model.points)]:
            result[data] = _surface(data, example, probed)
    return result


def _surface(data: str, example: str, shown: Sequence[_Shown]) -> Figure:
    figure = canvas.sheet(13.6, 0.9 + 3.1 * len(shown))
    top = {space: max(_of(model.points, space)["loss"].max() for model in shown) for space in _SPACES}
    for row, model in enumerate(shown):
        for place, space in enumerate(_SPACES):
            points = _of(model.points, space)
            at = 4 * row + 2 * place + 1
            hill = figure.add_subplot(len(shown), 4, at, projection="3d")
            canvas.hill(hill, points, top[space], _DIRECTIONS)
            hill.set_title(f"{model.title}, {_SPACES[space]}", fontsize=9)
            _map(figure.add_subplot(len(shown), 4, at + 1), points)
    seen = [name for model in shown for name in (*model.points["prediction"], *model.points["label"])]
    figure.legend(
        handles=canvas.class_marks(seen, "s"), loc="outside right center", frameon=False, fontsize=9, title="predicted"
    )
    eps = shown[0].record.eps_written or f"{float(shown[0].points['eps'].iloc[0]):.4g}"
    said = f"{data}: cross-entropy (nats) and prediction within ±{eps} of the last PGD iterate of an {example} image"
    figure.suptitle(said.replace("an fooled", "a fooled"), fontsize=10)
    return figure


def _of(points: pd.DataFrame, space: str) -> pd.DataFrame:
    return points[points["space"] == space]


def _map(ax: Any, points: pd.DataFrame) -> None:
    """The predicted class by colour, the point itself as a cross."""
    classes = points.pivot(index="across", columns="along", values="prediction")
    reach = float(points["along"].max()) or 1.0
    colours = ListedColormap(list(canvas.CLASSES))
    image = classes.to_numpy() % len(canvas.CLASSES)
    ax.imshow(
        image, origin="lower", extent=(-reach, reach) * 2, cmap=colours, vmin=-0.5, vmax=len(canvas.CLASSES) - 0.5
    )
    ax.plot(0, 0, marker="+", color="white", markersize=9, markeredgewidth=1.6)
    ax.set_title(f"image {int(points['index'].iloc[0])}, class {int(points['label'].iloc[0])}", fontsize=8)
    ax.set_xlabel(_DIRECTIONS[0], fontsize=7)
    ax.set_ylabel(_DIRECTIONS[1], fontsize=7)
    ax.tick_params(labelsize=6)


def _embeddings(data: str, shown: Sequence[_Shown], by: str) -> Figure:
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure = canvas.sheet(4.6 * columns + 1.6, 4.5 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    # One scale for all panels; entropy runs from certainty to the uniform distribution.
    top = max(float(model.points["entropy"].max()) for model in shown) if by == "entropy" else 0.0
    drawn = None
    for ax, model in zip(axes, shown, strict=False):
        points = model.points
        is_clean, is_right = points["attack"] == CLEAN, points["prediction"] == points["label"]
        clean, negative, broken = (points[part] for part in (is_clean, ~is_clean & is_right, ~is_clean & ~is_right))
        if by == "label":
            ax.scatter(clean["x"], clean["y"], c=canvas.colours(clean["label"]), s=9, linewidths=0)
            ax.scatter(negative["x"], negative["y"], c="black", marker="^", s=16, linewidths=0, zorder=3)
            ax.scatter(broken["x"], broken["y"], facecolors="none", edgecolors="black", marker="v", s=16, zorder=3)
        else:
            scale = {"vmin": 0, "vmax": top or 1, "cmap": "viridis"}
            ax.scatter(clean["x"], clean["y"], c=clean["entropy"], s=9, linewidths=0, **scale)
            edge = {"s": 24, "linewidths": 0.6, "edgecolors": "black", "zorder": 3}
            for marker, part in (("^", negative), ("v", broken)):
                drawn = ax.scatter(part["x"], part["y"], c=part["entropy"], marker=marker, **edge, **scale)
        counts = ((len(clean), "clean"), (len(negative), "negative"), (len(broken), "broken"))
        ax.set_title(f"{model.title}: {', '.join(f'{count} {name}' for count, name in counts if count)}", fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#cccccc")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(axes), label="entropy of the prediction (nats)", shrink=0.8)
    figure.legend(handles=_marks(shown, by), loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(f"t-SNE of the latent layer, {data}", fontsize=10)
    return figure


def _marks(shown: Sequence[_Shown], by: str) -> list[Any]:
    """The legend: classes where they are colours, clean and attacked."""
    attacks = {str(name) for model in shown for name in model.points["attack"]} - {CLEAN}
    marks = canvas.class_marks(name for model in shown for name in model.points["label"]) if by == "label" else []
    marks.append(Line2D([], [], color="#555555", marker="o", linestyle="", markersize=4, label=CLEAN))
    named = ", ".join(sorted(attacks)) or "no attack"
    in_vain = Line2D([], [], color="black", marker="^", ls="", markersize=5, label=f"{named}, in vain")
    broken = Line2D([], [], color="black", marker="v", fillstyle="none", ls="", markersize=5, label=f"{named}, broken")
    return [*marks, in_vain, broken]
