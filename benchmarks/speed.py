"""Our attacks beside other libraries' same-named ones and beside their own bare passes, in turn, on one thread.

    python -m benchmarks.speed                                    # everything; well over an hour on one core
    python -m benchmarks.speed --missing                          # go on after an interruption
    python -m benchmarks.speed --work pgd,cw/foolbox --models trades_mnist_smallcnn
    python -m benchmarks.speed --quick                            # a few images of the digits, once each

Writes speed.csv, speed.png and a README.md that explains them; rows are stored one by one. Needs $BENCH_DATA and
$BENCH_MODELS for the models that are not embedded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from statistics import median

import click
import pandas as pd
import torch

from bench.core.files import one_line
from bench.core.types import UserError
from bench.ops.frozen import frozen
from benchmarks import speed_clock, speed_floor, speed_memory, speed_plot, speed_rows, speed_sides
from benchmarks.speed_works import CASES, FLOOR, STEP, Case, Rival, Work, chosen

_QUICK = Path("runs/speed-quick")
_PLACE = Path("results/speed")
_MIB = 2**20


def _head(case: Case, scene: speed_sides.Scene, work: Work, rival: Rival) -> speed_rows.Row:
    """The columns that are known before anything is run."""
    lower = rival.name == FLOOR or work.how == "memory"
    packages = ["torch", *([rival.name.replace("_", "-")] if rival.written else [])]
    versions = [f"{package} {_version(package)}" for package in packages if _version(package)]
    return {
        "work": work.name,
        "model": case.model,
        "against": rival.name,
        "kind": case.kind,
        "norm": scene.norm,
        "eps": None if scene.planned(work.ours).attack.minimal else scene.eps,
        "n": len(scene.data),
        "ours": work.ours,
        "other": rival.written.format(step=f"{STEP * scene.eps:.6g}") or rival.name,
        "quotient": speed_rows.LOWER_IS_BETTER if lower else "other / ours",
        "versions": ", ".join(versions),
        "note": rival.note or None,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def timed_row(
    scene: speed_sides.Scene, work: Work, rival: Rival, head: speed_rows.Row, known: speed_clock.Known, repeats: int
) -> speed_rows.Row:
    """One rival of a work, run in turn with our side, of which `known` is known."""
    mine, other = speed_sides.ours(scene, work), speed_sides.against(scene, work, rival, known.schedule)
    bare = rival.name == FLOOR
    seen = speed_clock.Known(known.forwards, known.backwards, None) if bare else speed_clock.looked_at(scene, other)
    ours, theirs = speed_clock.alternate(mine, other, repeats)
    above, below = (ours, theirs) if bare else (theirs, ours)
    quotient = speed_clock.ratio([one.cpu for one in above], [one.cpu for one in below])
    wall = speed_clock.ratio([one.wall for one in above], [one.wall for one in below])
    first, second = known.answer, seen.answer
    differ = int((first.broken != second.broken).sum()) if first and second else None
    return head | {
        "repeats": repeats,
        **_judged(head, quotient),
        "wall_ratio": round(wall.middle, 4),
        "ours_cost": round(median([one.cpu for one in ours]), 5),
        "other_cost": round(median([one.cpu for one in theirs]), 5),
        "ours_forwards": round(known.forwards, 2),
        "ours_backwards": round(known.backwards, 2),
        "other_forwards": round(seen.forwards, 2),
        "other_backwards": round(seen.backwards, 2),
        "ours_left": round(first.robust, 6) if first else None,
        "other_left": round(second.robust, 6) if second else None,
        "ours_size": first.median if first else None,
        "other_size": second.median if second else None,
        "differences": differ,
    }


def memory_row(scene: speed_sides.Scene, work: Work, head: speed_rows.Row) -> speed_rows.Row:
    """Peak memory of our attack against one bare pass of the same batch."""
    with frozen(scene.model):
        speed_floor.bare(scene.model, scene.data.images)
        bare = speed_memory.peak(lambda: speed_floor.bare(scene.model, scene.data.images))
    peak = speed_memory.peak(speed_sides.ours(scene, work).run)
    quotient = speed_clock.ratio([peak], [bare])
    costs = {"ours_cost": round(peak / _MIB, 3), "other_cost": round(bare / _MIB, 3)}
    return head | {"repeats": 1, **_judged(head, quotient), **costs}


def _judged(head: speed_rows.Row, quotient: speed_clock.Ratio) -> speed_rows.Row:
    target, met = speed_rows.verdict(head["work"], head["kind"], head["against"], quotient.middle)
    numbers = {"ratio": quotient.middle, "ratio_low": quotient.low, "ratio_high": quotient.high}
    return {name: round(value, 4) for name, value in numbers.items()} | {"target": target, "met": met}


def rows(case: Case, base: speed_sides.Scene, work: Work, repeats: int) -> Iterator[speed_rows.Row]:
    """The rows of a work on one model; a side that does not run gives a row that says why."""
    scene = speed_sides.scene_for(base, work, getattr(case, work.images))
    known: speed_clock.Known | None = None
    for rival in work.rivals:
        head = _head(case, scene, work, rival)
        try:
            if work.how == "memory":
                yield memory_row(scene, work, head)
                continue
            known = known or speed_clock.looked_at(scene, speed_sides.ours(scene, work))
            yield timed_row(scene, work, rival, head, known, repeats)
        except Exception as fault:  # another library may raise anything, and the other rows are still wanted
            reason = str(fault) if isinstance(fault, UserError) else f"{type(fault).__name__}: {one_line(fault)}"
            target, _ = speed_rows.verdict(work.name, case.kind, rival.name, None)
            yield head | {"target": target, "note": f"{speed_rows.UNRUNNABLE}{reason}"}


def _cases(models: str | None, quick: bool) -> list[Case]:
    asked = [part.strip() for part in models.split(",")] if models else ["natural_digits"] if quick else []
    if unknown := set(asked) - {case.model for case in CASES}:
        names = ", ".join(case.model for case in CASES)
        raise click.UsageError(f"no model {', '.join(sorted(unknown))} here: known are {names}")
    cases = [case for case in CASES if not asked or case.model in asked]
    return [replace(case, many=16, some=16, few=8) for case in cases] if quick else cases


@click.command()
@click.option("--models", help="Only these, separated by commas.")
@click.option("--work", help="Only these works, as in pgd,cw/foolbox,memory.")
@click.option("--repeats", type=click.IntRange(1), help="Times that each side is timed.  [default: 3; quick: 1]")
@click.option("--missing", is_flag=True, help="Only rows that speed.csv has no ratio for.")
@click.option("--quick", is_flag=True, help="Few images, once; the digits model unless --models names others.")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder.  [default: {_PLACE}; quick: {_QUICK}]")
def main(
    models: str | None, work: str | None, repeats: int | None, missing: bool, quick: bool, out: Path | None
) -> None:
    """Measure, store row by row, then draw and print everything that is stored."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    place, repeats = out or (_QUICK if quick else _PLACE), repeats or (1 if quick else 3)
    try:
        works = chosen(work)
    except ValueError as fault:
        raise click.UsageError(str(fault)) from fault
    table = speed_rows.read(place / "speed.csv")
    for case in _cases(models, quick):
        todo = [_left(part, case.model, table) if missing else part for part in works]
        if not any(part.rivals for part in todo):
            continue
        base = speed_sides.Scene.load(case, case.many)
        for part in todo:
            for row in rows(case, base, part, repeats):
                table = speed_rows.merged(table, row)
                speed_rows.write(table, place)
                said = row.get("ratio", row["note"])
                click.echo(f"{row['model']} {row['work']} against {row['against']}: {said}", err=True)
    speed_plot.write(table, place / "speed.png")
    click.echo(speed_rows.shown(table))
    click.echo(f"\n{place}")


def _left(work: Work, model: str, table: pd.DataFrame) -> Work:
    """The work with only those rivals that have no measured row yet."""
    rivals = [rival for rival in work.rivals if not speed_rows.holds(table, work.name, model, rival.name)]
    return replace(work, rivals=tuple(rivals))


if __name__ == "__main__":
    main()
