"""Robust accuracy over passes, from stored rows: how many images stand once each of them may have cost so much.

    python -m benchmarks.strength_passes results/runs/madry_wrn-accuracy results/runs/madry_wrn-slow

An attack that stops at its find has broken an image by the forward and backward passes of the image's row: nothing is
run again. An attack that goes on after it (a minimal one, or one that carries images along for a few steps) is credited
later than it deserves; `bench run --max-passes` measures those. The stages of an ensemble are in its curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd

from bench.core.arguments import OUT, PATH
from bench.core.entry import enter
from bench.core.eps import parse_eps
from bench.core.files import write_atomically
from bench.core.text import as_file_name
from bench.core.types import UserError
from bench.report import canvas, measures, render
from bench.report.comparability import refuse_other_images, refuse_two_under_one_name
from bench.store import runs as store
from bench.store.runs import Run

COLUMNS = ("model", "data", "norm", "eps", "attack", "n", "passes", "robust", "robust_accuracy")


def curves(runs: Sequence[Run], eps: float) -> pd.DataFrame:
    """The curve of each attack of runs of one model at an eps, columns `COLUMNS`, on the images that all of them met.

    A line each number of passes at which an image falls, one for no pass, and one for the most that an image took.

    Raises:
        UserError: the runs are of different models, images or norms, or no attack of theirs met this eps, or a run is a
            sweep in which a break at one eps spares the search at others.
    """
    for run in runs:
        if run.record.eps_order in ("exact", "bisect"):
            raise UserError(
                f"{run.directory} is a sweep whose eps share passes: draw a run at one eps, or --independent"
            )
    for run in runs[1:]:
        refuse_other_images(runs[0], run)
        refuse_two_under_one_name(runs[0], run)
        for key in ("model", "weights_sha256", "norm"):
            if getattr(run.record, key) != getattr(runs[0].record, key):
                raise UserError(f"{run.directory} has another {key} than {runs[0].directory}: draw each alone")
    record = runs[0].record
    met = {(place, name): rows for place, run in enumerate(runs) for name, rows in _rows(run, eps)}
    if not met:
        raise UserError(f"no attack of the runs met {record.norm} {eps:.6g}: give another --eps")
    images = sorted(set.intersection(*({*rows.index} for rows in met.values())))
    same = {"model": record.model, "data": record.data, "norm": record.norm, "eps": eps, "n": len(images)}
    lines = []
    for (place, name), rows in met.items():
        known = [attack for _, attack in met].count(name) == 1
        label = name if known else f"{name} in {runs[place].directory}"
        lines += [{**same, "attack": label, **point} for point in _steps(rows.loc[images])]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _rows(run: Run, eps: float) -> list[tuple[str, pd.DataFrame]]:
    """The rows, by image, of each attack in the run's norm that met an eps; a minimal one meets every eps."""
    result = []
    for entry in run.record.attacks:
        rows = run.verdicts[run.verdicts["attack"] == entry.spec].set_index("index")
        if entry.minimal and entry.norm == run.record.norm:
            rows = rows.assign(broken=rows["broken"] & measures.within(rows["size"], eps))
        elif not entry.minimal:
            rows = rows[rows["eps"] == eps]
        if len(rows) and entry.norm == run.record.norm:
            result.append((entry.spec, rows))
    return result


def _steps(rows: pd.DataFrame) -> list[dict[str, Any]]:
    spent = rows["forwards"] + rows["backwards"]
    right, broken = int((rows["label"] == rows["clean_pred"]).sum()), spent[rows["broken"]]
    at = sorted({0, *broken, int(spent.max())})
    left = [right - int((broken <= passes).sum()) for passes in at]
    return [
        {"passes": int(passes), "robust": count, "robust_accuracy": count / len(rows)}
        for passes, count in zip(at, left, strict=True)
    ]


def draw(table: pd.DataFrame, path: Path, written: str) -> None:
    """Every attack a curve, the one that leaves the fewest images first in the legend; passes on a logarithmic axis.

    `written` is the eps as the user wrote it.
    """
    figure = canvas.sheet(8, 4.5)
    ax = figure.subplots()
    last = table.groupby("attack", sort=False)["robust"].min().sort_values(kind="stable")
    for place, attack in enumerate(last.index):
        points = table[table["attack"] == attack]
        style = {"color": canvas.LINES[place % len(canvas.LINES)], "linestyle": ("-", "--", ":", "-.")[place // 6 % 4]}
        label = f"{attack} ({last[attack]} left)"
        ax.step(points["passes"].clip(lower=1), 100 * points["robust_accuracy"], where="post", label=label, **style)
        ax.plot(points["passes"].iloc[-1:], 100 * points["robust_accuracy"].iloc[-1:], ".", color=style["color"])
    ax.set_xscale("log")
    ax.set_xlabel("forward and backward passes an image")
    ax.set_ylabel("robust accuracy (%)")
    canvas.frame(ax)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    first = table.iloc[0]
    canvas.caption(figure, f"{first['model']}, {first['data']}, {first['norm']} ε = {written}, n = {first['n']}")
    canvas.save(figure, path)


@click.command()
@click.argument("directories", metavar="RUN [RUN ...]", type=PATH, nargs=-1, required=True)
@click.option("--eps", help="The eps of the curves, as in 8/255; by default the first run's.")
@click.option("--out", type=OUT, default=Path("results/strength"), show_default=True)
def main(directories: tuple[Path, ...], eps: str | None, out: Path) -> None:
    """Robust accuracy over passes for the attacks of runs of one model: passes-MODEL.csv and passes-MODEL.png."""
    runs = [store.load(path, finished=True) for path in directories]
    asked = runs[0].record.eps if eps is None else parse_eps(eps)
    if asked is None:
        raise UserError(f"{directories[0]} has no eps of its own: give --eps")
    table = curves(runs, asked)
    stem = as_file_name(f"passes-{runs[0].record.model}.csv").removesuffix(".csv")
    write_atomically(out / f"{stem}.csv", render.csv(table))
    draw(table, out / f"{stem}.png", eps or measures.budgets(runs[0].record)[asked])
    ends = table.groupby("attack", sort=False).last().reset_index()[["attack", "passes", "robust", "robust_accuracy"]]
    click.echo(f"{render.console(ends)}\n\n{out / stem}.csv\n{out / stem}.png")


if __name__ == "__main__":
    enter(main, "strength_passes")
