"""Tables of manifold-aware training (MAT): the features, from probes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from bench.core.registry import tables
from bench.core.types import CLEAN
from bench.papers.beside import Cells, Measured, Printed, beside, fraction, steps_of
from bench.papers.mat.systems import printed, system
from bench.papers.systems import System
from bench.report import significance
from bench.report.model_runs import Dossier, dossiers
from bench.store.runs import Run

_ATTACKS = {"none": CLEAN, "PGD": "pgd", "DDN": "ddn"}
_RATES = ("match_rate", "match_rate_low", "match_rate_high", "match_rate_published")
_MORE = ("match_rate_broken", "broken_n")


def _probed(runs: Sequence[Run], defenses: set[str], probe: str) -> Iterator[tuple[System, Dossier, pd.DataFrame]]:
    """The models that a table may hold with what a probe found.

    `kind` is an attack's registered name, `eps` and `steps` how it was run (eps NaN for a minimal attack).
    """
    for dossier in dossiers(runs):
        row, probing = system(dossier), dossier.probing(probe)
        if row.defense in defenses and probing is not None:
            run, probed = probing
            entries = {entry.spec: entry for entry in run.record.attacks}
            eps = math.nan if run.record.eps is None else run.record.eps
            met = [entries.get(str(name)) for name in probed["attack"]]
            yield (
                row,
                dossier,
                probed.assign(
                    kind=[dossier.attack_named(str(name)) for name in probed["attack"]],
                    eps=[math.nan if entry is None or entry.minimal else eps for entry in met],
                    steps=["" if entry is None else steps_of(entry.fields) for entry in met],
                ),
            )


@tables.register("mat/1")
def table_1(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Match rate of clean images and adversarial examples, from the probe `match_rate`."""
    known: Printed = {}
    for row, line in printed(published, "1"):
        known[(*row[:2], _ATTACKS[line["attack"]])] = {"match_rate_published": fraction(line)}
    measured: Measured = {}
    counts: set[int] = set()
    for row, dossier, probed in _probed(runs, {key[1] for key in known}, "match_rate"):
        for kind in _ATTACKS.values():
            if len(here := probed[probed["kind"] == kind]):
                cells = _rates(here)
                counts |= {int(name.rpartition("_")[2]) for name in cells if name.rpartition("_")[2].isdigit()}
                measured.setdefault((*row[:2], kind), []).append({"model": dossier.model} | cells)
    others = tuple(f"match_rate_{count}" for count in sorted(counts))
    columns = ("data", "defense", "attack", "model", "eps", "n", "attack_steps", *_RATES, *_MORE, *others)
    return beside(columns, dict(sorted(known.items(), key=lambda item: item[0][:2])), measured)


def _rates(probed: pd.DataFrame) -> Cells:
    """The cells of one attack: one cluster a class, then the other counts."""
    first = probed["attack"].iloc[0]
    mine = probed[probed["attack"] == first].drop_duplicates(["points", "clusters"])
    whole = mine[mine["points"] == "all"].sort_values("clusters")
    least = whole[whole["clusters"] == whole["classes"]].iloc[0]
    low, high = significance.wilson(int(least["matched"]), int(least["n"]))
    cells: Cells = {"n": int(least["n"]), "match_rate": float(least["match_rate"])}
    cells |= {"match_rate_low": low, "match_rate_high": high, **_how(mine, "attack_steps")}
    for _, line in mine[(mine["points"] == "broken") & (mine["clusters"] == least["clusters"])].iterrows():
        cells |= {"match_rate_broken": float(line["match_rate"]), "broken_n": int(line["n"])}
    for _, line in whole[whole["clusters"] != whole["classes"]].iterrows():
        cells[f"match_rate_{int(line['clusters'])}"] = float(line["match_rate"])
    return cells


def _how(probed: pd.DataFrame, name: str) -> Cells:
    """The eps and the steps of the attack that some lines of a probe are about."""
    eps, count = probed["eps"].iloc[0], probed["steps"].iloc[0]
    return ({} if pd.isna(eps) else {"eps": float(eps)}) | ({name: count} if count else {})


@tables.register("mat/5")
def table_5(runs: Sequence[Run], published: pd.DataFrame) -> pd.DataFrame:
    """Cosine similarity of features to the center of the predicted class, from the probe `cosine`."""
    known: Printed = {}
    for row, line in printed(published, "5"):
        kind, part = ("clean", "pgd")[line["attack"] == "PGD"], str(line["metric"]).rpartition("_")[2]
        known.setdefault((*row[:2], *row.variant), {})[f"{kind}_cosine_{part}_published"] = float(line["value"])
    measured: Measured = {}
    for row, dossier, probed in _probed(runs, {"MAT"}, "cosine"):
        clean, pgd = (probed[probed["kind"] == kind] for kind in (CLEAN, "pgd"))
        pgd = pgd[pgd["attack"] == pgd["attack"].iloc[0]] if len(pgd) else pgd
        cells = {"model": dossier.model, "n": len(clean)} | _spread("clean", clean) | _spread("pgd", pgd)
        broken = pgd[pgd["broken"]]["cosine"] if len(pgd) else pgd["cosine"]
        if len(pgd):
            cells |= {"pgd_broken_n": len(broken), "pgd_broken_cosine_mean": float(broken.mean())}
            cells |= _how(pgd, "pgd_steps")
        measured.setdefault((*row[:2], *row.variant), []).append(cells)
    parts = ("mean", "mean_low", "mean_high", "mean_published", "std", "std_published")
    columns = tuple(f"{kind}_cosine_{part}" for kind in ("clean", "pgd") for part in parts)
    row_ = ("data", "defense", "so", "bibo", "model", "eps", "n", "pgd_steps")
    return beside((*row_, *columns, "pgd_broken_n", "pgd_broken_cosine_mean"), known, measured)


def _spread(kind: str, probed: pd.DataFrame) -> Cells:
    values = probed["cosine"]
    low, high = significance.mean(values.tolist())
    return {
        f"{kind}_cosine_mean": float(values.mean()),
        f"{kind}_cosine_mean_low": low,
        f"{kind}_cosine_mean_high": high,
        f"{kind}_cosine_std": float(values.std()),
    }
