"""Small stored runs whose every number is known."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.core import registry
from bench.core.types import CLEAN, Norm, Verdict
from bench.papers import published
from bench.store import detections
from bench.store import probes as probed
from bench.store import runs as store
from bench.store.record import AttackEntry, Record, ThreatRecord

N, EPS = 40, 0.3


NUMBERS = published.load()


MAT = {"alpha": 1.0, "beta": 1.0}


def rows(attack: str, broken: int, eps: float | None = EPS, norm: Norm = "linf", n: int = N) -> list[Verdict]:
    """The first image is wrong when clean, the next `broken` are broken, at sizes that rise by 0.01 up to eps."""
    return [
        Verdict(
            i,
            i % 10,
            (i + (i == 0)) % 10,
            attack,
            norm,
            eps,
            adv_pred,
            min(0.01 * i, 1.0 if eps is None else eps) * hit,
            True,
            hit,
            40,
            40,
        )
        for i in range(n)
        for hit in [0 < i <= broken]
        for adv_pred in [(i + (hit or i == 0)) % 10]
    ]


def entry(spec: str, norm: Norm = "linf", minimal: bool = False, **fields: object) -> AttackEntry:
    return AttackEntry(spec=spec, name=spec.partition("(")[0], norm=norm, minimal=minimal, fields=fields)


def record(**known: Any) -> Record:
    """A finished run's record; what a test does not say is as here."""
    usual: dict[str, Any] = {
        "model": "m",
        "data": "mnist",
        "split": "test",
        "indices": tuple(range(N)),
        "attacks": (),
        "norm": "linf",
        "batch_size": 8,
        "finished": True,
    }
    return Record(**usual | known)


def detection_record(
    detector: str, threat: ThreatRecord, encoder: Mapping[str, Any] | None = None, **known: Any
) -> detections.DetectionRecord:
    """The record of a detection by a detector whose encoder was trained in some way."""
    about = detections.DetectorEntry(
        spec=detector,
        name=detector,
        fields={},
        encoder=detections.EncoderEntry(**{"model": "m", **(encoder or {})}),
        joint=detections.JointEntry(fields={"steps": 100}),
    )
    return detections.DetectionRecord.of(record(**known), threat, about, 1.0)


def run(model: str, defense: str, *parts: list[Verdict], weights: object = None, **known: object) -> store.Run:
    specs = list(dict.fromkeys(part[0].attack for part in parts))
    about: dict[str, object] = {
        "model": model,
        "defense": defense,
        "eps": EPS,
        "eps_written": "0.3",
        "attacks": tuple(entry(spec, steps=40) for spec in specs),
        "adaptive": tuple(spec for spec in specs if spec in ("mat", "margin", "kl")),
        "trained_with": {"mat": weights} if weights else {},
    }
    return store.Run(store.frame([row for part in parts for row in part]), record(**about | known))


def kept(made: store.Run, place: Path, **probes: pd.DataFrame) -> store.Run:
    """The same run, written to a folder with what probes found."""
    place.mkdir(parents=True)
    (place / "run.json").write_text(store.dump(made.record.to_dict()))
    text = made.verdicts.to_csv(index=False, lineterminator="\n")
    (place / "verdicts.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    for name, table in probes.items():
        probed.write(place, name, table, {})
    return store.load(place)


SO_BIBO = run("m_mat", "mat", rows("pgd", 2), rows("mat", 20), rows("margin", 24), weights=MAT)


BIBO = run("m_bibo", "mat", rows("pgd", 22), rows("mat", 24), weights={"alpha": 0.0, "beta": 1.0})


TRADES = run("m_trades", "trades", rows("pgd", 4), rows("kl", 6))


def table(name: str, *runs: store.Run) -> pd.DataFrame:
    made: pd.DataFrame = registry.tables[name](runs, NUMBERS)
    return made


def only(found: pd.DataFrame) -> pd.Series:
    found = found[found["model"].notna()]
    assert len(found) == 1
    return found.iloc[0]


def points(count: int = 12) -> pd.DataFrame:
    place = np.arange(count)
    return pd.DataFrame(
        {
            "attack": [CLEAN] * (count - 3) + ["pgd"] * 3,
            "label": place % 10,
            "prediction": (place + 1) % 10,
            "x": place * 1.0,
            "y": -(place**2.0),
        }
    )


def sweep(model: str, defense: str, attacks: tuple[str, ...], **known: object) -> store.Run:
    grid = tuple((k / 255, f"{k}/255") for k in (0, 4, 8))
    parts = [rows(attack, 4 * place, eps) for attack in attacks for place, (eps, _) in enumerate(grid)]  # type: ignore[arg-type]
    return run(model, defense, *parts, eps=None, eps_grid=grid, **known)
