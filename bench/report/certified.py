"""What was proven of a run beside what attacks left: the truth lies between the two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core import verdicts
from bench.core.types import NORMS, Norm
from bench.report import measures, render
from bench.store import certificates
from bench.store.certificates import Certificates
from bench.store.runs import Run

COLUMNS = (
    "model",
    "data",
    "norm",
    "eps",
    "n",
    "clean_accuracy",
    "certified_accuracy",
    "robust_accuracy",
    "unknown",
    "failed",
    "seconds",
)
NOTE = "Certified: right, and proven right for every image of [0, 1] within ε; the truth lies between it and robust."
_STEM = "certified_table"
_NAMED = 5
_IMAGE = 10**6
"""How many values an image of a run is taken to have whose record does not say it."""


def stored(run: Run) -> Certificates | None:
    """What was certified of a stored run, or None.

    Raises:
        UserError: a file is damaged.
    """
    return certificates.load(run.directory, run.record)


def table(run: Run, known: Certificates) -> pd.DataFrame:
    """A row a norm and eps: the images that are right, proven, and not broken by any attack, as shares of all.

    An image without a row counts as neither proven nor refuted. `robust_accuracy` is the worst row's of the run at this
    norm and eps, where it has one.
    """
    rows, n = [], len(run.record.indices)
    first = run.verdicts.drop_duplicates("index")
    clean = float((first["clean_pred"] == first["label"]).sum()) / n if len(first) == n else float("nan")
    attacked = worst(run)
    for (norm, eps), here in groups(known.table):
        counts = here["certified"].value_counts()
        rows.append({
            "model": run.record.model,
            "data": run.record.data,
            "norm": norm,
            "eps": eps,
            "n": n,
            "clean_accuracy": clean,
            "certified_accuracy": counts.get("true", 0) / n,
            "robust_accuracy": attacked.get((norm, eps), float("nan")),
            "unknown": int(counts.get("unknown", 0)) + n - len(here),
            "failed": int(counts.get("failed", 0)),
            "seconds": float(here["seconds"].sum()),
        })  # fmt: skip
    rows.sort(key=lambda row: (NORMS.index(row["norm"]), row["eps"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def groups(rows: pd.DataFrame) -> Iterable[tuple[tuple[Norm, float], pd.DataFrame]]:
    """The rows of each norm and eps."""
    made: Iterable[Any] = rows.groupby(["norm", "eps"])
    return made


def worst(run: Run) -> dict[tuple[str, float | None], float]:
    """The robust accuracy of the worst row of each norm and eps of a run."""
    made = (outcome for outcome in measures.outcomes(run) if outcome.attack == measures.WORST)
    return {(outcome.norm, outcome.eps): float(outcome.numbers()["robust_accuracy"]) for outcome in made}


def beside(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """A run's summary as people read it: where something was certified, worst rows say which share was proven."""
    known = stored(run)
    if known is None:
        return summary
    made = table(run, known)
    shares = {(row["norm"], row["eps"]): row["certified_accuracy"] for row in made.to_dict("records")}
    values = [
        shares.get((row["norm"], row["eps"]), float("nan")) if row["attack"] == measures.WORST else float("nan")
        for row in summary.to_dict("records")
    ]
    result = summary.copy()
    result.insert(result.columns.get_loc("robust_accuracy"), "certified_accuracy", values)  # type: ignore[arg-type]
    return result


def between(run: Run) -> list[str]:
    """A sentence a norm and eps that was certified of a stored run: between which numbers its robust accuracy lies."""
    known = stored(run)
    return [] if known is None else list(sentences(table(run, known), dict(known.record.eps_written)))


def contradictions(run: Run, known: Certificates) -> list[tuple[int, str]]:
    """Images that are both proven right within an eps and broken by a lawful image within it: index and attack.

    A perturbation is at most as large in linf as in l2, and in l2 as in l1: what was found in a later norm counts.
    """
    values = math.prod(run.record.image or (_IMAGE,))
    proven = known.table[known.table["certified"] == "true"]
    broken = run.verdicts[run.verdicts["broken"] & run.verdicts["lawful"]]
    result = dict[int, str]()
    for (norm, eps), rows in groups(proven):
        harder = NORMS[NORMS.index(norm) :]
        against = broken[
            broken["index"].isin(rows["index"])
            & broken["norm"].isin(harder)
            & (broken["size"] <= verdicts.allowed(eps, values, norm))
        ]
        result = dict(zip(against["index"], against["attack"], strict=True)) | result
    return sorted((int(index), attack) for index, attack in result.items())


def complaint(run: Run, known: Certificates) -> str | None:
    """The line that names the images which somebody is wrong about, or None."""
    wrong = contradictions(run, known)
    if not wrong:
        return None
    named = ", ".join(f"image {index} ({attack})" for index, attack in wrong[:_NAMED])
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return (
        f"somebody is wrong: {named}{more}: proven right within an eps that a lawful adversarial example keeps to; "
        "bench verify tells whether the examples stand"
    )


def sentences(made: pd.DataFrame, written: dict[float, str]) -> Iterator[str]:
    """A sentence a norm and eps: between which two numbers the robust accuracy lies."""
    for row in made.to_dict("records"):
        at = f"{row['norm']} ε = {written.get(row['eps']) or format(row['eps'], '.6g')}"
        proven, attacked = 100 * row["certified_accuracy"], 100 * row["robust_accuracy"]
        if attacked != attacked:
            yield f"{at}: certified {proven:.1f} %; no attack of this run was judged there"
        else:
            yield f"{at}: certified {proven:.1f} %, attacked {attacked:.1f} %: the truth lies between"


def console(run: Run, known: Certificates) -> str:
    """The table and its sentences, for a terminal."""
    made, written = table(run, known), dict(known.record.eps_written)
    return "\n".join([render.console(made, written), "", *sentences(made, written)])


def write(run: Run, known: Certificates, directory: Path) -> pd.DataFrame:
    """Write `certified_table.csv`, `.tex` and `.md`.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    made = table(run, known)
    caption = f"What was proven of {run.record.model} on {run.record.data}, n = {len(run.record.indices)}."
    render.write(
        directory, _STEM, made, caption, dict(known.record.eps_written), ("model", "data", "n"), f"In percent. {NOTE}"
    )
    return made
