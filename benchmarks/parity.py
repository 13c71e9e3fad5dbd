"""Our `autoattack` beside the original package, stage by stage, from stored runs that hold both.

    bench run --model MODEL --attacks autoattack,autoattack:standard -n 500 --out results/runs/MODEL-autoattack
    python -m benchmarks.parity results/runs/*-autoattack --out results/parity

Each row says what is left after a stage of either, and how many images only one of them broke.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from bench.report import measures, render
from bench.store import runs as store

OURS, THEIRS = "autoattack", "autoattack:standard"
_STAGES = {
    "apgd_ce": "apgd-ce",
    "apgd_t": "apgd-t",
    "fab_t": "fab-t",
    "square": "square",
    "": "",
}
CAPTION = (
    "Robust accuracy after each stage of our autoattack and of pyautoattack's standard version on the same images, "
    "cumulative; forward and backward passes are means over the images that the model gets right. only ours, only "
    "theirs: images that one of them broke up to this stage and the other did not."
)


def rows(run: store.Run) -> list[dict[str, object]]:
    """A row a stage, and one for the whole."""
    found = {one.attack: one for one in measures.outcomes(run)}
    lines: list[dict[str, object]] = []
    for ours, theirs in _STAGES.items():
        mine, other = (found["/".join(filter(None, pair))] for pair in ((OURS, ours), (THEIRS, theirs)))
        broken = mine.images["broken"], other.images["broken"]
        right = int(mine.images["right"].sum())
        lines.append(
            {
                "model": run.record.model,
                "norm": mine.norm,
                "eps": mine.eps,
                "stage": ours or "in all",
                "n": len(mine.images),
                "robust_accuracy_ours": mine.numbers()["robust_accuracy"],
                "robust_accuracy_theirs": other.numbers()["robust_accuracy"],
                "only_ours": int((broken[0] & ~broken[1]).sum()),
                "only_theirs": int((broken[1] & ~broken[0]).sum()),
                "forwards_ours": mine.forwards / right,
                "forwards_theirs": other.forwards / right,
                "backwards_ours": mine.backwards / right,
                "backwards_theirs": other.backwards / right,
            }
        )
    return lines


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/parity"), show_default=True)
def main(runs: tuple[Path, ...], out: Path) -> None:
    """Write parity.csv, .tex and .md, and print the table."""
    table = pd.DataFrame([line for run in runs for line in rows(store.load(run))])
    render.write(out, "parity", table, CAPTION)
    click.echo(render.markdown(table))


if __name__ == "__main__":
    main()
