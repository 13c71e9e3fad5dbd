"""Figures of the ER-Classifier: accuracy over eps, loss surfaces, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.core.registry import figures
from bench.papers.er.systems import MADRY, embedding, has_own_embedding, settings, system
from bench.report import canvas, measures
from bench.report.model_runs import Dossier, dossiers
from bench.store.record import Record
from bench.store.runs import Run

Label = Callable[[Record], "str | None"]


@figures.register("er/1")
def figure_1(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Accuracy over eps by embedding dimension, from a sweep of each.

    A figure a data set and norm. PGD; models without min-max training and with a Gaussian prior, as the paper's.
    """

    def label(record: Record) -> str | None:
        known = _plain(record)
        return f"n_z = {embedding(record)}" if known and known.get("prior") == "gaussian" else None

    return _sweeps(runs, label, "by embedding dimension")


@figures.register("er/2")
def figure_2(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Accuracy over eps by the eps of adversarial training, from a sweep of each.

    A figure a data set and norm. PGD; Madry's training of the ER-Classifier's net.
    """

    def label(record: Record) -> str | None:
        trained = record.trained_for
        return f"trained at {trained.eps:g}" if system(record) == MADRY and trained else None

    return _sweeps(runs, label, "by training ε")


@figures.register("er/3")
def figure_3(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Accuracy over eps by prior, from a sweep of each.

    A figure a data set and norm. PGD; models without min-max training and of the net's own embedding dimension.
    """

    def label(record: Record) -> str | None:
        known = _plain(record)
        return str(known["prior"]) if known and has_own_embedding(record) else None

    return _sweeps(runs, label, "by prior")


@figures.register("er/4")
def figure_4(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Loss surfaces, from the probe `rademacher_surface`.

    A figure a data set, a panel a model: cross-entropy along the gradient's sign and random signs, one height for all.
    """
    return {name: _hills(name, shown) for name, shown in _probed(runs, "rademacher_surface").items()}


@figures.register("er/5")
def figure_5(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Embeddings in two dimensions, figures 5 and 6 of the paper, from the probe `plane`.

    A figure a data set, a panel a model: codes as they are if there are two, otherwise two principal components.
    """
    return {name: _planes(name, shown) for name, shown in _probed(runs, "plane").items()}


def _plain(record: Record) -> Mapping[str, Any] | None:
    """How an ER-Classifier without min-max training was trained; None for anything else."""
    trained = settings(record)
    return trained if trained and trained.get("weight", 0) > 0 and not trained.get("minmax") else None


def _probed(runs: Sequence[Run], probe: str) -> dict[str, list[tuple[str, pd.DataFrame]]]:
    """What a probe found of the systems of the paper, by data set: titles and tables."""
    result: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for dossier in dossiers(runs):
        name, probed = system(dossier.record), dossier.probe(probe)
        if name is not None and probed is not None:
            result.setdefault(dossier.record.data, []).append((_title(dossier, name), probed))
    return {data: sorted(parts, key=lambda part: part[0]) for data, parts in result.items()}


def _title(dossier: Dossier, name: str) -> str:
    prior = (settings(dossier.record) or {}).get("prior", "gaussian")
    other = "" if prior == "gaussian" else f", {prior} prior"
    return f"{name}, n_z = {embedding(dossier.record)}{other}"


def _sweeps(runs: Sequence[Run], label: Label, title: str) -> dict[str, Figure]:
    lines: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    for dossier in dossiers(runs):
        name = label(dossier.record)
        for run in dossier.runs if name else ():
            if name and run.record.eps_grid and len(points := _pgd(run)):
                here = lines.setdefault((run.record.data, run.record.norm), {})
                here[name if name not in here else f"{name} ({dossier.model})"] = points
    return {f"{data}-{norm}": _curves(data, norm, swept, title) for (data, norm), swept in lines.items()}


def _pgd(run: Run) -> pd.DataFrame:
    """PGD's points of a sweep, the first PGD's if there are several."""
    specs = [entry.spec for entry in run.record.attacks if entry.name == "pgd"]
    return pd.DataFrame([outcome.numbers() for outcome in measures.outcomes(run) if outcome.attack in specs[:1]])


def _curves(data: str, norm: str, lines: Mapping[str, pd.DataFrame], title: str) -> Figure:
    figure = canvas.sheet(6.2, 3.9)
    ax = figure.subplots()
    ordered = sorted(lines, key=lambda name: (len(name), name))
    for place, name in enumerate(ordered):
        colour, marker = canvas.LINES[place % len(canvas.LINES)], canvas.MARKERS[place % len(canvas.MARKERS)]
        style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.4, "markersize": 4}
        canvas.band(ax, lines[name].sort_values("eps"), label=name, **style)
    counts = sorted({int(n) for points in lines.values() for n in points["n"]})
    ax.set_title(f"{data}, {title}: PGD, n = {'/'.join(map(str, counts))}, Wilson 95 % limits", fontsize=9)
    ax.set(ylim=(-2, 102), xlim=(0, None), ylabel="robust accuracy (%)")
    ax.set_xlabel(f"perturbation size ε in {canvas.NORMS[norm]} (images in [0, 1])")
    canvas.frame(ax)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _hills(data: str, shown: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = canvas.sheet(4.0 * columns, 3.7 * rows + 0.4)
    firsts = [(title, points[points["index"] == points["index"].iloc[0]]) for title, points in shown]
    top = max(float(points["loss"].max()) for _, points in firsts)
    for place, (title, points) in enumerate(firsts):
        ax = figure.add_subplot(rows, columns, place + 1, projection="3d")
        canvas.hill(ax, points, top, ("gradient sign", "random signs"))
        ax.set_title(title, fontsize=9)
    index = int(firsts[0][1]["index"].iloc[0])
    canvas.caption(figure, f"{data}, cross-entropy around clean image {index}")
    return figure


def _planes(data: str, shown: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = canvas.sheet(4.0 * columns + 0.9, 3.8 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax in list(axes)[len(shown) :]:
        ax.set_axis_off()
    for ax, (title, points) in zip(figure.axes, shown, strict=False):
        ax.scatter(points["x"], points["y"], c=canvas.colours(points["label"]), s=9, linewidths=0)
        codes = int(points["size"].iloc[0])
        ax.set_title(title if codes == 2 else f"{title}, two principal components", fontsize=9)
        ax.set_aspect("equal", adjustable="datalim")
        ax.tick_params(labelsize=7)
        ax.grid(color="#eeeeee", linewidth=0.6)
        ax.set_axisbelow(True)
    marks = canvas.class_marks(name for _, points in shown for name in points["label"])
    figure.legend(handles=marks, loc="outside right center", frameon=False, fontsize=9, title="class")
    counts = "/".join(sorted({str(len(points)) for _, points in shown}))
    canvas.caption(figure, f"{data}: codes of {counts} clean images")
    return figure
