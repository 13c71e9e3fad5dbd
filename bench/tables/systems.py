"""Which system of MAT's tables a run's model is, and measured cells beside printed ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bench import limits, measures
from bench.dossiers import Dossier, Judged, Threat
from bench.measures import Outcome
from bench.tables import published as numbers

PAPER = "MAT-002"
_DEFENSES = {"natural": "Natural", "madry": "AT", "at": "AT", "trades": "TRADES", "mmc": "MMC", "mat": "MAT"}
DEFENSES = tuple(dict.fromkeys(_DEFENSES.values()))
"""The defenses of the paper's tables, in their order."""
_SWITCHES = {"TRADES": ("-", "O")}
_DATA = ("CIFAR10", "MNIST")
_PRINTED_PGD = {"CIFAR10": {"steps": 20, "step_size": 0.003}, "MNIST": {"steps": 40, "step_size": 0.01}}

Cells = dict[str, Any]


class System(NamedTuple):
    """A row of the tables: data set, defense, and whether SO and BIBO are on (O), off (X) or not a question (-)."""

    data: str
    defense: str
    so: str
    bibo: str


def parts(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """A run's defense as the tables name it, and O, X or - for SO and for BIBO.

    MAT's weights alpha and beta decide where the checkpoint's stanza records them (`trained_with.mat`); otherwise the
    words of the defense and the model name: `mat-so-bibo`, `mat-bibo`, `mat-so`; plain `mat` has neither. TRADES has no
    SO to switch, and its robust term plays BIBO's part. The nets of the ER-Classifier (er_*) are none of the systems.
    """
    named, model = (re.split(r"[^a-z0-9]+", str(record.get(key, "")).lower()) for key in ("defense", "model"))
    words = named if any(named) else model
    known = {} if str(record.get("arch", "")).startswith("er_") else _DEFENSES
    defense = next((known[word] for word in words if word in known), str(record.get("defense", "")).upper())
    if defense != "MAT":
        return defense, *_SWITCHES.get(defense, ("-", "-"))
    weights = (record.get("trained_with") or {}).get("mat")
    has_so = weights.get("alpha", 1) > 0 if weights else "so" in (*named, *model)
    has_bibo = weights.get("beta", 1) > 0 if weights else "bibo" in (*named, *model)
    return "MAT", "O" if has_so else "X", "O" if has_bibo else "X"


def system(dossier: Dossier) -> System:
    """The row of a model; data sets are named as the paper names them."""
    name = str(dossier.record.get("data", ""))
    data = next((one for one in _DATA if one.lower() == name.lower().replace("-", "")), name)
    return System(data, *parts(dossier.record))


def printed_pgd(dossier: Dossier, threat: Threat) -> Judged | None:
    """PGD as the printed numbers were likely made, if it was run, else the PGD that was.

    The paper does not print its steps; these are those of TRADES' scripts, whose published row it repeats.
    """
    own = _PRINTED_PGD.get(system(dossier).data)
    found = dossier.under(threat, lambda one: one.is_pgd and own is not None and own.items() <= one.fields.items())
    return found[0] if found else dossier.pgd(threat)


def printed(published: pd.DataFrame, table: str) -> Iterable[tuple[System, Mapping[Any, Any]]]:
    """The numbers of one of MAT's tables, each with the row it belongs to."""
    for line in numbers.results(published, PAPER, table).to_dict("records"):
        switches = re.findall(r"=(\S+)", str(line["variant"])) or ["-", "-"]
        yield System(line["dataset"], line["defense"], *switches), line


def share(line: Mapping[Any, Any]) -> float:
    """A printed percentage as a fraction."""
    return round(float(line["value"]) / 100, 6)


def accuracy(name: str, outcome: Outcome | None) -> Cells:
    """Robust accuracy as the column `name`, with its Wilson limits in `name`_low and `name`_high."""
    if outcome is None:
        return {}
    found = outcome.numbers()
    return {name: found["robust_accuracy"], f"{name}_low": found["ci_low"], f"{name}_high": found["ci_high"]}


def sizes(name: str, attack: Judged | None) -> Cells:
    """What a minimal attack needed: n, steps, mean with normal limits and median over its successes, success rate."""
    if attack is None:
        return {}
    images = attack.outcome.images
    found, right = images["size"].dropna(), int(images["right"].sum())
    low, high = limits.mean(found.tolist())
    return {
        f"{name}_n": attack.n,
        f"{name}_steps": steps([attack]),
        f"{name}_mean_size": float(found.mean()),
        f"{name}_mean_size_low": low,
        f"{name}_mean_size_high": high,
        f"{name}_median_size": float(found.median()),
        f"{name}_success_rate": len(found) / right if right else float("nan"),
    }


def steps(attacks: Sequence[Judged]) -> str:
    """The steps of attacks as `steps_of` writes them; different ones with a slash."""
    return "/".join(sorted({steps_of(one.fields) for one in attacks} - {""}))


def steps_of(fields: Mapping[str, Any]) -> str:
    """The steps in an attack's fields, "40" or "9 × 1000" for as many searches of so many; empty without any."""
    count, searches = fields.get("steps"), fields.get("searches")
    return "" if not count else f"{searches} × {count}" if searches else str(count)


def together(*outcomes: Outcome | None) -> list[Outcome | None]:
    """Outcomes cut down to the images that all of them have."""
    there = [one for one in outcomes if one is not None]
    common = set.intersection(*(set(one.images.index) for one in there)) if there else set()
    return [one and _among(one, common) for one in outcomes]


def _among(outcome: Outcome, indices: set[int]) -> Outcome:
    images = outcome.images[outcome.images.index.isin(indices)]
    return measures.worst([Outcome(outcome.attack, outcome.norm, outcome.eps, images, 0, 0, 0.0)])


def beside(
    columns: Sequence[str], known: Mapping[tuple[Any, ...], Cells], measured: Mapping[tuple[Any, ...], Sequence[Cells]]
) -> pd.DataFrame:
    """Rows by data set, in the order of the printed ones, each with every model measured for it.

    A key's parts fill the first columns.
    """
    keys = list(dict.fromkeys([*known, *measured]))
    data = list(dict.fromkeys(key[0] for key in keys))
    tails = list(dict.fromkeys(key[1:] for key in known))

    def place(key: tuple[Any, ...]) -> tuple[int, int]:
        alike = (rank for rank, tail in enumerate(tails) if tail[0] == key[1])
        return data.index(key[0]), tails.index(key[1:]) if key[1:] in tails else next(alike, len(tails))

    rows = [
        dict(zip(columns, key, strict=False)) | known.get(key, {}) | cells
        for key in sorted(keys, key=place)
        for cells in measured.get(key) or [{}]
    ]
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: "Int64" for name in columns if name == "n" or name.endswith("_n")})
