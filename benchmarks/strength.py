"""How strong the minimal-norm attacks are beside the best implementations elsewhere, at equal steps.

    python -m benchmarks.strength            # what is missing in results/strength/rows.csv, then the tables
    python -m benchmarks.strength --again fmn --only adv_lib
    python -m benchmarks.strength --tables

A row is a (model, norm, attack): the sizes of what it found for the first 100 images that the model gets right, judged
by `bench.evaluation.judge` outside the attack (infinite where nothing lawful was found), its passes and its time. Rows
are stored one by one, so that an interrupted run goes on where it stopped. Peers run as they are installed; needs
$BENCH_DATA and $BENCH_MODELS. About an hour and a half on one core.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.files import write_atomically
from bench.core.from_specs import attack_from
from bench.core.specs import Spec, parse_specs
from bench.core.types import Budget
from bench.evaluation import judge
from bench.evaluation.request import Request, subject
from bench.ops import active_set, passes, rng
from bench.ops.frozen import frozen
from benchmarks.strength_cases import IMAGES, MODELS, Case, cases

PLACE = Path("results/strength")
COLUMNS = ("model", "norm", "library", "family", "attack", "n", "forwards", "backwards", "seconds", "sizes")
KEY = ["model", "norm", "attack"]


@dataclass(frozen=True)
class Target:
    """A model in eval mode with its first images (N, C, H, W) that it gets right, and their places in the data."""

    name: str
    model: Any
    x: Tensor
    y: Tensor
    places: Tensor

    @classmethod
    def load(cls, name: str) -> Target:
        """The first `IMAGES` correctly classified test images of a registered model."""
        tested = subject(Request(name, "", n=4 * IMAGES))
        data = tested.data
        with frozen(tested.model):
            right = ~active_set.misclassified(passes.reference_outputs(tested.model, data.images), data.labels)
        kept = right.nonzero().squeeze(1)[:IMAGES]
        return cls(name, tested.model, data.images[kept], data.labels[kept], data.indices[kept])


def measured(target: Target, case: Case) -> dict[str, Any]:
    """Run one attack on a target and judge it: a row of `rows.csv`."""
    (spec,) = parse_specs(case.spec)
    # `attack_from` refuses None for a field whose default is a number, and adv_lib's `levels` takes it.
    attack, x, y = replace(attack_from(Spec(spec.name, ()), {}), **dict(spec.fields)), target.x, target.y  # type: ignore[type-var]
    keys = rng.keys(0, target.places, spec.name)
    began = time.perf_counter()
    with frozen(target.model), passes.counted(len(x)) as tally:
        x_adv = attack(target.model, x, y, Budget(case.norm, None), keys).detach()
        seconds = time.perf_counter() - began
        verdict = judge.judge(target.model, x, x_adv, y, case.norm, None)
    broken = verdicts.broken(y, y, verdict.adv_pred, verdict.lawful)
    sizes = torch.where(broken, verdict.size, math.inf).tolist()
    row = {
        "model": target.name,
        "norm": case.norm,
        "library": case.library,
        "family": case.family,
        "attack": case.spec,
        "n": len(x),
        "forwards": float(tally.forwards.double().mean()),
        "backwards": float(tally.backwards.double().mean()),
        "seconds": round(seconds, 1),
        "sizes": " ".join(f"{size:.6g}" for size in sizes),
    }
    return {name: row[name] for name in COLUMNS}


def stored(place: Path = PLACE) -> pd.DataFrame:
    """The rows measured so far of the cases that there are now."""
    path = place / "rows.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    table, known = pd.read_csv(path), {(case.norm, case.spec): case.family for case in cases()}
    table["family"] = [known.get(key, "") for key in zip(table["norm"], table["attack"], strict=True)]
    return table[table["family"] != ""]


def keep(row: dict[str, Any], place: Path = PLACE) -> None:
    """Store a row, in place of an older one of the same key. Rows stay sorted, so that equal rows give equal bytes."""
    table = stored(place)
    others = table[~(table[KEY] == [row[name] for name in KEY]).all(axis=1)]
    table = pd.DataFrame([*others.to_dict("records"), row], columns=list(COLUMNS))
    table = table.sort_values(["model", "norm", "family", "library", "attack"], kind="stable")
    write_atomically(place / "rows.csv", table.to_csv(index=False, lineterminator="\n"))


def _wanted(case: Case, only: str, again: str, done: set[tuple[str, ...]], model: str) -> bool:
    if only and case.library != only:
        return False
    if again and case.family in again.split(","):
        return True
    return not again and (model, case.norm, case.spec) not in done


@click.command()
@click.option("--only", default="", help="a library: bench, adv_lib or foolbox")
@click.option("--again", default="", help="families to measure anew, such as fmn,ddn, and nothing else")
@click.option("--model", "models", multiple=True, default=MODELS, help="models, all by default")
@click.option("--tables", is_flag=True, help="measure nothing, write the tables")
def main(only: str, again: str, models: tuple[str, ...], tables: bool) -> None:
    for name in () if tables else models:
        done = {tuple(key) for key in stored()[KEY].to_numpy().tolist()}
        todo = [case for case in cases() if _wanted(case, only, again, done, name)]
        target = Target.load(name) if todo else None
        for case in todo:
            assert target is not None
            row = measured(target, case)
            keep(row)
            sizes = pd.Series([float(size) for size in row["sizes"].split()])
            cost = f"{row['forwards']:.0f}+{row['backwards']:.0f} passes, {row['seconds']} s"
            found = f"median {sizes.median():.5g}, {sizes.lt(math.inf).mean():.0%}"
            click.echo(f"{name} {case.norm} {case.spec}: {found}, {cost}")
    from benchmarks import strength_tables

    strength_tables.write(stored(), PLACE)


if __name__ == "__main__":
    main()
