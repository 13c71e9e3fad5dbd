"""Figures of manifold-aware training (MAT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.core.registry import figures
from bench.core.types import CLEAN
from bench.papers.mat.systems import DEFENSES, system
from bench.papers.systems import System
from bench.report import canvas, measures
from bench.report.model_runs import Dossier, dossiers
from bench.store.record import Record
from bench.store.runs import Run

# Okabe and Ito's colours without yellow, too faint on white: baselines, then MAT's four in the order of its tables.
_STYLES = {
    "Natural": ("#777777", "x"),
    "AT": ("#000000", "o"),
    "TRADES": ("#0072B2", "s"),
    "MMC": ("#CC79A7", "v"),
    "MAT plain": ("#56B4E9", "P"),
    "MAT BIBO": ("#009E73", "^"),
    "MAT SO": ("#E69F00", "D"),
    "MAT SO+BIBO": ("#D55E00", "*"),
}


@figures.register("mat/1")
def figure_1(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Features in two dimensions by t-SNE, from the probe `embedding`.

    A figure a model: dots are clean images, triangles those that the attack broke; coloured by label on the left and by
    prediction on the right.
    """
    probed = {dossier.model: (dossier, dossier.probe("embedding")) for dossier in _shown(runs)}
    return {name: _embedding(dossier, points) for name, (dossier, points) in probed.items() if points is not None}


@figures.register("mat/2")
def figure_2(runs: Sequence[Run]) -> Mapping[str, Figure]:
    """Robust accuracy over eps for all defenses, from a sweep of each.

    A figure a data set and norm. PGD on the left, the per-image worst of the sweep's attacks on the right where a sweep
    holds several.
    """
    sweeps: dict[tuple[str, str], list[_Sweep]] = {}
    for dossier in _shown(runs):
        for run in dossier.runs:
            if run.record.eps_grid:
                norm = run.record.norm
                points = tuple(outcome for outcome in measures.outcomes(run) if outcome.norm == norm)
                line = _Sweep(label(system(dossier)), dossier.model, run.record, points)
                if line.pgd or line.worst:
                    sweeps.setdefault((run.record.data, norm), []).append(line)
    return {f"{data}-{norm}": _curves(data, norm, lines) for (data, norm), lines in sweeps.items()}


def _shown(runs: Sequence[Run]) -> list[Dossier]:
    """The models that are systems of the paper."""
    return [dossier for dossier in dossiers(runs) if system(dossier).defense in DEFENSES]


@dataclass(frozen=True)
class _Sweep:
    """A sweep's outcomes, an attack and eps each, and whose they are."""

    system: str
    model: str
    record: Record
    outcomes: tuple[measures.Outcome, ...]

    @property
    def attacks(self) -> list[str]:
        """The attacks, without their worst."""
        return sorted({outcome.attack for outcome in self.outcomes} - {measures.WORST})

    @property
    def pgd(self) -> list[measures.Outcome]:
        """PGD's points."""
        specs = [entry.spec for entry in self.record.attacks if entry.name == "pgd"]
        return [outcome for outcome in self.outcomes if outcome.attack in specs[:1]]

    @property
    def worst(self) -> list[measures.Outcome]:
        """The worst's points, if there are several attacks."""
        together = [outcome for outcome in self.outcomes if outcome.attack == measures.WORST]
        return together if len(self.attacks) > 1 else []


def label(row: System) -> str:
    """A system's name in a legend: MAT with the terms it was trained with."""
    terms = "+".join(name for name, switch in zip(("SO", "BIBO"), row.variant, strict=True) if switch == "O")
    return f"MAT {terms or 'plain'}" if row.defense == "MAT" else row.defense


def _embedding(dossier: Dossier, points: pd.DataFrame) -> Figure:
    figure = canvas.sheet(10.4, 4.9)
    attacked = points[points["attack"] != CLEAN]
    attack = "".join(attacked["attack"].iloc[:1])
    for ax, by in zip(figure.subplots(1, 2), ("label", "prediction"), strict=True):
        for is_clean, rows in ((True, points[points["attack"] == CLEAN]), (False, attacked)):
            shape = {"marker": "o", "s": 9, "linewidths": 0} if is_clean else _triangle()
            ax.scatter(rows["x"], rows["y"], c=canvas.colours(rows[by]), **shape)
        _name_groups(ax, points[points["attack"] == CLEAN], by)
        ax.set_title(f"coloured by {'true label' if by == 'label' else by}", fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("#cccccc")
    marks = canvas.class_marks([*points["label"], *points["prediction"]])
    marks.append(Line2D([], [], color="#555555", marker="o", linestyle="", markersize=4, label=CLEAN))
    broken = f"{attack}, broken" if attack else "no attack"
    marks.append(Line2D([], [], color="#555555", marker="^", linestyle="", markeredgecolor="black", label=broken))
    figure.legend(handles=marks, loc="outside right center", frameon=False, fontsize=9, title="class")
    counted = f"{len(points) - len(attacked)} clean and {len(attacked)} adversarial images"
    figure.suptitle(f"t-SNE of the features of {dossier.model}, {dossier.record.data}: {counted}", fontsize=10)
    return figure


def _triangle() -> dict[str, Any]:
    return {"marker": "^", "s": 26, "linewidths": 0.7, "edgecolors": "black", "zorder": 3}


def _name_groups(ax: Any, clean: pd.DataFrame, by: str) -> None:
    for name, rows in clean.groupby(by):
        place = rows[["x", "y"]].median()
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        ax.annotate(str(name), place, fontsize=9, weight="bold", ha="center", va="center", bbox=box, zorder=4)


def _curves(data: str, norm: str, sweeps: Sequence[_Sweep]) -> Figure:
    ranks = list(_STYLES)
    ordered = sorted(sweeps, key=lambda sweep: ranks.index(sweep.system) if sweep.system in ranks else len(ranks))
    attacks = ", ".join(sorted({attack for sweep in ordered if sweep.worst for attack in sweep.attacks}))
    both = {
        "PGD": [(sweep, sweep.pgd) for sweep in ordered],
        f"worst of {attacks}": [(sweep, sweep.worst) for sweep in ordered],
    }
    panels = {title: [line for line in lines if line[1]] for title, lines in both.items() if any(p for _, p in lines)}
    figure = canvas.sheet(4.6 * len(panels) + 1.9, 3.9)
    written = [text for sweep in sweeps for text in measures.budgets(sweep.record).values()]
    unit, said = (255.0, "units of 1/255") if all(map(canvas.in_255ths, written)) else (1.0, "images in [0, 1]")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for sweep, points in lines:
            alike = {other.model for other in sweeps if other.system == sweep.system}
            _line(ax, sweep, points, unit, sweep.system if len(alike) < 2 else f"{sweep.system} ({sweep.model})")
        ax.set_title(title, fontsize=10)
        ax.set(ylim=(-2, 102), xlim=(0, None), xlabel=f"perturbation size ε in {canvas.NORMS[norm]} ({said})")
        canvas.frame(ax)
    axes[0].set_ylabel("robust accuracy (%)")
    entries = {name: mark for ax in axes for mark, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(entries.values()), list(entries), loc="outside right upper", frameon=False, fontsize=9)
    counts = sorted({len(point.images) for sweep in sweeps for point in sweep.outcomes})
    stated = f"{data}, n = {'/'.join(map(str, counts))}, bands: Wilson 95 % limits"
    canvas.caption(figure, stated)
    return figure


def _line(ax: Any, sweep: _Sweep, outcomes: Sequence[measures.Outcome], unit: float, name: str) -> None:
    colour, marker = _STYLES.get(sweep.system, ("#999999", "."))
    points = pd.DataFrame([outcome.numbers() for outcome in outcomes]).sort_values("eps")
    style = {"color": colour, "marker": marker, "linewidth": 1.4, "markersize": 5}
    canvas.band(ax, points, unit, label=name, markevery=max(1, len(points) // 8), **style)
