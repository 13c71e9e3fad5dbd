"""The rows of `results/speed/speed.csv`: what a column means, how a new row replaces an old one, how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from bench.core.files import write_atomically
from bench.report import render
from benchmarks.speed_works import CASES, TARGETS, WORKS

KEY = ["work", "model", "against"]
COLUMNS = {
    "work": "what is compared (`benchmarks/speed_works.py` holds the list)",
    "model": "name in `checkpoints.toml`",
    "against": "the other side: a library, `floor`, `12 runs` or `bare pass`",
    "kind": "robust or natural: which target applies",
    "norm": "norm of the attack",
    "eps": "budget; empty for minimal attacks; of a sweep, the model's own, the grid reaching up to twice that",
    "n": "images, all of them classified correctly",
    "ours": "our attack, as `--attacks` names it",
    "other": "the other side's attack",
    "repeats": "times that each side was run under the clock, in turn",
    "quotient": "`other / ours` (higher is better for us) or `ours / other` (the floor and memory: lower is better)",
    "ratio": "median of the quotients of CPU time, or the quotient of peak memory",
    "ratio_low": "lowest of them",
    "ratio_high": "highest of them",
    "wall_ratio": "median of the quotients of time on the wall",
    "target": "the ratio that was asked for before anything was measured",
    "met": "whether the median meets it",
    "ours_cost": "our median CPU seconds, or peak memory in MiB",
    "other_cost": "the other side's",
    "ours_forwards": "rows that our attack put through the model, over n",
    "ours_backwards": "rows that came back, over n",
    "other_forwards": "the other side's, rounded up for a library",
    "other_backwards": "the same, backwards",
    "ours_left": "share of (image, eps) pairs that our attack leaves unbroken, judged by `bench.evaluation.judge`",
    "other_left": "the other side's, judged by `bench.evaluation.judge` too",
    "ours_size": "median size of what broke them, ours, for minimal attacks",
    "other_size": "the other side's",
    "differences": "(image, eps) pairs broken by one side and not by the other",
    "versions": "of torch and of the other library",
    "note": "what a reader must know, or why the row could not be run",
}
LOWER_IS_BETTER = "ours / other"
UNRUNNABLE = "not runnable: "
Row = dict[str, Any]


def read(path: Path) -> pd.DataFrame:
    """The stored rows; none where there is no file."""
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=object)
    return _plain(pd.read_csv(path))


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """All columns, in order, with None wherever there is nothing."""
    table = table.reindex(columns=list(COLUMNS)).astype(object)
    return table.where(table.notna(), None)


def merged(table: pd.DataFrame, row: Row) -> pd.DataFrame:
    """The table with a row added, in place of the one with the same key if there is one, in the order of the works."""
    same = pd.Series(True, index=table.index)
    for name in KEY:
        same &= table[name] == row[name]
    rows = [*table[~same].to_dict("records"), row]
    return _plain(pd.DataFrame(sorted(rows, key=_place), dtype=object))


def _place(row: Any) -> tuple[int, int, int]:
    works = [work.name for work in WORKS]
    rivals = next(([rival.name for rival in work.rivals] for work in WORKS if work.name == row["work"]), [])
    cases = [case.model for case in CASES]
    return _at(row["work"], works), _at(row["against"], rivals), _at(row["model"], cases)


def _at(name: str, names: list[str]) -> int:
    return names.index(name) if name in names else len(names)


def holds(table: pd.DataFrame, work: str, model: str, against: str) -> bool:
    """Whether the table has a measured row of this key."""
    same = (table["work"] == work) & (table["model"] == model) & (table["against"] == against)
    return bool((same & table["ratio"].notna()).any())


def verdict(work: str, kind: str, against: str, ratio: float | None) -> tuple[float | None, bool | None]:
    """The target of a row, and whether its ratio meets it; None where nothing was asked for or measured."""
    target = TARGETS.get((work, against))
    asked = target.of(kind) if target else None
    if target is None or asked is None or ratio is None:
        return asked, None
    return asked, ratio <= asked if target.at_most else ratio >= asked


def shown(table: pd.DataFrame, style: str = "simple") -> str:
    """The rows as a table for people."""
    lines = [_line(row) for row in table.to_dict("records")]
    return tabulate(lines, headers="keys", tablefmt=style, disable_numparse=True) if lines else "no rows"


def _line(row: Any) -> dict[str, str]:
    known = pd.notna(row["ratio"])
    spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f})" if known else "–"
    sign = "≤" if row["quotient"] == LOWER_IS_BETTER else "≥"
    unit = "MiB" if str(row["work"]).startswith("memory") else "s"
    return {
        "work": str(row["work"]),
        "model": f"{row['model']} ({row['kind']}, n = {row['n']})",
        "against": str(row["against"]),
        "ratio": spread,
        "of": str(row["quotient"]),
        "target": f"{sign} {row['target']:g}" if pd.notna(row["target"]) else "",
        "met": {True: "yes", False: "no"}.get(row["met"], "") if pd.notna(row["met"]) else "",
        "cost": _pair(row, "cost", "{:.3g}", unit),
        "left %": _pair(row, "left", "{:.1%}"),
        "median size": _pair(row, "size", "{:.4g}"),
        "differ": f"{row['differences']:g}" if pd.notna(row["differences"]) else "",
        "note": row["note"] if pd.notna(row["note"]) else "",
    }


def _pair(row: Any, name: str, form: str, unit: str = "") -> str:
    cells = [
        form.format(row[f"{side}_{name}"]) if pd.notna(row[f"{side}_{name}"]) else "" for side in ("ours", "other")
    ]
    return f"{' / '.join(filter(None, cells))} {unit}".strip() if any(cells) else ""


_HEAD = """# Speed beside other libraries

`make bench-speed` (`python -m benchmarks.speed`, with `--models`, `--work`, `--repeats`, `--missing`, `--quick`) runs
our attack and another library's in turn on the same correctly classified images and model, each with its whole batch,
on one thread, and divides their CPU times, run by run. What both return is judged by `bench.evaluation.judge`, never by
themselves. Each side runs once before the clock starts. Ours is timed with frozen weights and counted passes,
ensembles and sweeps with the judge; the peers as their users call them, on the model as it was loaded.

- **Floor**: the forward and input-gradient passes that our attack made, with the same numbers of rows, nothing else.
- **Memory**: the most that torch's CPU allocator gave out at once, against one bare pass of the same batch.
- **Sweep**: 12 eps in one job, against 12 jobs or one call of foolbox with 12 epsilons; `sweep` assumes nothing,
  `sweep_bisect` that what survives an eps survives the smaller ones.

`speed.csv` holds a row a work, model and rival; a row is replaced when it is run again. Its columns:

"""


def write(table: pd.DataFrame, directory: Path) -> None:
    """Write `speed.csv` and the `README.md` beside it.

    Raises:
        UserError: the place cannot be written.
    """
    columns = "\n".join(f"- `{name}`: {meaning}" for name, meaning in COLUMNS.items())
    write_atomically(directory / "speed.csv", render.csv(table))
    pairs = "Two numbers in a cell are ours / other."
    write_atomically(directory / "README.md", f"{_HEAD}{columns}\n\n{pairs}\n\n{shown(table, 'pipe')}\n")
