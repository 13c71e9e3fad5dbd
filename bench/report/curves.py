"""Accuracy over eps: one panel a norm, drawn from the verdicts of a run or a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bench.report import canvas, measures
from bench.report.run_table import protocol
from bench.store.runs import Run

_DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1)))
_APART = 0.014
_PANEL = (4.6, 3.6)
_LEGEND = 2.1


@dataclass(frozen=True)
class _Axis:
    """The eps axis of a panel: how far it goes, and its unit (255 draws eps as n/255)."""

    norm: str
    end: float
    unit: float

    @property
    def label(self) -> str:
        unit = " (units of 1/255)" if self.unit == 255 else " (images in [0, 1])"
        return f"perturbation size ε in {canvas.NORMS[self.norm]}{unit}"


def draw(run: Run) -> Figure:
    """Robust accuracy over eps as a figure that belongs to no window.

    Minimal attacks are steps: one search gives their accuracy at every eps. Budgeted attacks are markers where they
    were run, with Wilson 95 % limits; where there is one eps, they stand side by side around it.
    """
    outcomes = measures.outcomes(run)
    norms = list(dict.fromkeys(outcome.norm for outcome in outcomes))
    panels = max(1, len(norms))
    figure = canvas.sheet(_PANEL[0] * panels + _LEGEND, _PANEL[1])
    attacks = _attacks(outcomes)
    styles = {attack: _style(place) for place, attack in enumerate(attacks)}
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    for ax, norm in zip(axes, norms, strict=False):
        _panel(ax, run, [outcome for outcome in outcomes if outcome.norm == norm], styles)
    axes[0].set_ylabel("robust accuracy (%)")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if entries:
        order = [label for label in (*attacks, measures.WORST, "clean accuracy") if label in entries]
        figure.legend([entries[label] for label in order], order, loc="outside right upper", frameon=False, fontsize=9)
    canvas.caption(figure, protocol(run))
    return figure


def write(run: Run, path: Path) -> None:
    """Draw the run into a PNG file, whole or not at all.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    canvas.save(draw(run), path)


def _attacks(outcomes: list[measures.Outcome]) -> list[str]:
    """The attacks in their order, without their worst."""
    return list(dict.fromkeys(outcome.attack for outcome in outcomes if outcome.attack != measures.WORST))


def _style(place: int) -> dict[str, Any]:
    return {
        "color": canvas.LINES[place % len(canvas.LINES)],
        "marker": canvas.MARKERS[place % len(canvas.MARKERS)],
        "linestyle": _DASHES[place // len(canvas.LINES) % len(_DASHES)],
    }


def _axis(run: Run, outcomes: list[measures.Outcome]) -> _Axis:
    norm = outcomes[0].norm
    asked = measures.budgets(run.record) if norm == run.record.norm else {}
    unit = 255.0 if asked and all(canvas.in_255ths(written) for written in asked.values()) else 1.0
    bounds = [outcome.eps for outcome in outcomes if outcome.eps is not None]
    if len(set(bounds)) > 1:
        return _Axis(norm, max(bounds), unit)
    sizes = pd.concat([outcome.images["size"] for outcome in outcomes]).dropna()
    # A few images that hardly break would squeeze all the others against the left edge.
    reach = float(sizes.quantile(0.98)) if len(sizes) else 0.0
    return _Axis(norm, max(1.5 * max(bounds, default=0.0), 0.0 if bounds else 1.05 * reach) or 1.0, unit)


def _panel(ax: Any, run: Run, outcomes: list[measures.Outcome], styles: dict[str, dict[str, Any]]) -> None:
    axis = _axis(run, outcomes)
    attacks = _attacks(outcomes)
    tables = {
        attack: run.verdicts[(run.verdicts["attack"] == attack) & (run.verdicts["norm"] == axis.norm)]
        for attack in attacks
    }
    budgeted = [attack for attack in attacks if tables[attack]["eps"].notna().any()]
    for attack, rows in tables.items():
        points = measures.curve(rows)
        if attack not in budgeted:
            _steps(ax, points, axis, label=attack, color=styles[attack]["color"], linewidth=1.5)
            continue
        aside = _APART * (budgeted.index(attack) - (len(budgeted) - 1) / 2) if len(points) == 1 else 0.0
        _marks(ax, points, axis, aside, label=attack, linewidth=1.4, markersize=5, **styles[attack])
    worst = [outcome for outcome in outcomes if outcome.attack == measures.WORST]
    if len(attacks) > 1:
        _worst(ax, worst, axis)
    clean = 100 * float(worst[0].images["right"].mean())
    ax.axhline(clean, color="#777777", linestyle="--", linewidth=1, label="clean accuracy", zorder=1)
    ax.set(xlim=(0, 1.02 * axis.end * axis.unit), ylim=(-2, 102), xlabel=axis.label)
    canvas.frame(ax)


def _steps(ax: Any, points: pd.DataFrame, axis: _Axis, **style: Any) -> None:
    last = float(points["robust_accuracy"].iloc[-1])
    eps = [*points["eps"] * axis.unit, max(float(points["eps"].iloc[-1]), 1.02 * axis.end) * axis.unit]
    ax.step(eps, [*100 * points["robust_accuracy"], 100 * last], where="post", **style)


def _marks(ax: Any, points: pd.DataFrame, axis: _Axis, aside: float, **style: Any) -> None:
    eps, robust = (points["eps"] + aside * axis.end) * axis.unit, 100 * points["robust_accuracy"]
    low, high = 100 * points["ci_low"], 100 * points["ci_high"]
    if len(points) > 1:
        ax.fill_between(eps, low, high, color=style["color"], alpha=0.12, linewidth=0)
        ax.plot(eps, robust, **style)
    else:
        limits = [(robust - low).clip(lower=0), (high - robust).clip(lower=0)]
        ax.errorbar(eps, robust, yerr=limits, capsize=3, **style | {"linestyle": "none"})


def _worst(ax: Any, worst: list[measures.Outcome], axis: _Axis) -> None:
    # Broad and below the others: on its own colour an attack that is the worst one stays visible.
    style: dict[str, Any] = {"label": measures.WORST, "color": "#a6a6a6", "linewidth": 6, "zorder": 1.5}
    if worst[0].eps is None:
        _steps(ax, measures.steps(worst[0].images), axis, **style)
        return
    eps = [outcome.eps * axis.unit for outcome in worst if outcome.eps is not None]
    robust = [100 * outcome.numbers()["robust_accuracy"] for outcome in worst]
    if len(eps) == 1:
        reach = 0.06 * axis.end * axis.unit
        eps, robust = [eps[0] - reach, eps[0] + reach], robust * 2
    ax.plot(eps, robust, solid_capstyle="butt", **style)
