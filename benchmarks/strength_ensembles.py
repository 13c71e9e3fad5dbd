"""AutoAttack, `strong` and `beyond` side by side, from the runs stored under results/runs: nothing is run again.

    python -m benchmarks.strength_ensembles

Of every model that has a run of `strong`, each ensemble of each seed, on the images that it and AutoAttack met: what it
leaves, what it costs, and on which images they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from bench.core.arguments import OUT, PATH
from bench.core.entry import enter
from bench.core.types import UserError
from bench.report import measures, render
from bench.store import runs as store
from bench.store.runs import Run

ENSEMBLES = ("autoattack", "strong", "beyond")
_HEADINGS = {
    "robust": "robust images",
    "passes": "passes a robust image",
    "only": "AutoAttack missed",
    "missed": "AutoAttack alone broke",
}
_CAPTION = (
    "Ensembles side by side: images left standing of the first n, forward and backward passes (mean over these), and "
    "images on which the ensemble differs from AutoAttack, of those that both met."
)


@dataclass(frozen=True)
class Tried:
    """One ensemble of a run: its rows by image."""

    run: Run
    attack: str
    rows: pd.DataFrame

    @property
    def broken(self) -> frozenset[int]:
        """Indices of the images that it broke."""
        return frozenset(self.rows.index[self.rows["broken"]])


def tried(directory: Path) -> dict[str, list[Tried]]:
    """The ensembles of finished runs at one eps, by model."""
    result: dict[str, list[Tried]] = {}
    for path in sorted(directory.glob("*/run.json")):
        record = store.read_record(path.parent)
        names = [entry.spec for entry in record.attacks if entry.name in ENSEMBLES]
        if not names or record.eps is None:
            continue
        run = store.load(path.parent, finished=True)
        for name in names:
            rows = run.verdicts[run.verdicts["attack"] == name].set_index("index")
            result.setdefault(record.model, []).append(Tried(run, name, rows))
    return {model: known for model, known in result.items() if any(each.attack == "strong" for each in known)}


def _fit(mine: Tried, other: Tried) -> tuple[int, bool]:
    """How well another run is one to compare with: images in common, then the same seed."""
    return len(other.rows.index.intersection(mine.rows.index)), other.run.record.seed == mine.run.record.seed


def compared(ensembles: list[Tried]) -> list[dict[str, Any]]:
    """A line each ensemble and seed of a model, beside AutoAttack on the same images."""
    lines = []
    for mine in ensembles:
        record = mine.run.record
        others = [each for each in ensembles if each.attack == "autoattack" and each.run.record.norm == record.norm]
        others.sort(key=lambda other: _fit(mine, other), reverse=True)
        shared = mine.rows.index.intersection(others[0].rows.index) if others else mine.rows.index
        rows = mine.rows.loc[shared]
        right = rows["label"] == rows["clean_pred"]
        standing = rows[right & ~rows["broken"]]
        ours, theirs = mine.broken & {*shared}, others[0].broken & {*shared} if others else None
        lines.append(
            {
                "model": record.model,
                "data": record.data,
                "eps": measures.budgets(record)[record.eps],
                "n": len(rows),
                "attack": mine.attack,
                "seed": record.seed,
                "robust": len(standing),
                "passes": round(float((standing["forwards"] + standing["backwards"]).mean()))
                if len(standing)
                else None,
                "only": len(ours - theirs) if theirs is not None else None,
                "missed": len(theirs - ours) if theirs is not None else None,
            }
        )
    order = {name: place for place, name in enumerate(ENSEMBLES)}
    # The same ensemble, seed and images may stand in two runs.
    lines = [line for place, line in enumerate(lines) if line not in lines[:place]]
    return sorted(lines, key=lambda line: (line["n"], order.get(line["attack"], 3), line["attack"], line["seed"]))


@click.command()
@click.option("--runs", type=PATH, default=Path("results/runs"), show_default=True)
@click.option("--out", type=OUT, default=Path("results/strength"), show_default=True)
def main(runs: Path, out: Path) -> None:
    """Write ensembles.csv, .tex and .md."""
    lines = [line for _, ensembles in sorted(tried(runs).items()) for line in compared(ensembles)]
    if not lines:
        raise UserError(f"{runs} holds no run of strong: python -m experiments.make strong makes them")
    table = pd.DataFrame(lines).astype({"passes": "Int64", "only": "Int64", "missed": "Int64"})
    render.write(out, "ensembles", table, _CAPTION, headings=_HEADINGS)
    click.echo(render.console(table))


if __name__ == "__main__":
    enter(main, "strength_ensembles")
