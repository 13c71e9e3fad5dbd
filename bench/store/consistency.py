"""What a run's record and rows must agree on: rows are held to their meaning when they are read, not to form alone.

A row follows from others: an image has one label and one clean prediction, `broken` is what the other columns make it,
a lawful example is no larger than eps. What contradicts that was edited, or belongs to another run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.core import verdicts
from bench.core.eps import parse_eps
from bench.core.types import NORMS, NOT_FINITE, UserError
from bench.store.record import Record

if TYPE_CHECKING:
    import pandas as pd

_LARGEST_IMAGE = 10**6
"""How many values an image of a run is taken to have whose record does not say it."""


def record_faults(record: Record) -> Iterator[str]:
    """What in a record contradicts itself, as texts that begin with the key."""
    if not record.indices or len(set(record.indices)) < len(record.indices):
        yield "indices names no image, or one of them twice"
    if len(set(record.labels)) < len(record.labels):
        yield "attacks names one of them twice"
    if record.eps_grid is not None and not record.eps_grid:
        yield "eps_grid is empty"
    pairs = [*(record.eps_grid or ()), *([] if record.eps is None else [(record.eps, record.eps_written or "")])]
    for eps, written in pairs:
        if written and not _says(written, eps):
            yield f"eps {eps!r} was written {written!r}"


def _says(written: str, eps: float) -> bool:
    try:
        return abs(parse_eps(written) - eps) <= 1e-5 * eps
    except UserError:
        return False


def row_faults(table: pd.DataFrame, record: Record) -> Iterator[str]:
    """What in rows contradicts the record or other rows: a text a kind, which names the first such row and its column.

    Args:
        table: rows with the columns of `verdicts.csv`, indexed by their place in the file.
        record: the record of their run.
    """
    if not len(table):
        return
    for column, wrong, what in _looks(table, record):
        bad = wrong.to_numpy(dtype=bool)
        if bad.any():
            place = int(bad.argmax())
            yield f"line {table.index[place] + 2}, {column} {_shown(table[column].iloc[place])}: {what}"


def _looks(table: pd.DataFrame, record: Record) -> Iterator[tuple[str, pd.Series[Any], str]]:
    """A column, which rows are wrong in it, and in what way."""
    top = record.classes or float("inf")
    yield from _keys(table, record)
    yield "label", (table["label"] < 0) | (table["label"] >= top), "no such class"
    for column in ("clean_pred", "adv_pred"):
        yield column, (table[column] < NOT_FINITE) | (table[column] >= top), "no such class"
    for column in ("label", "clean_pred"):
        first = table.groupby("index")[column].transform("first")
        yield column, table[column] != first, "another row of the same image has another"
    for column in ("forwards", "backwards"):
        yield column, table[column] < 0, "a count is 0 or more"
    if record.max_passes is not None:
        many = table["forwards"] + table["backwards"] > record.max_passes
        yield "forwards", many, f"the run allows {record.max_passes} passes an image"
    size, lawful = table["size"], table["lawful"]
    yield "size", size < 0, "a size is 0 or more"
    yield "lawful", lawful & ~(size < float("inf")), "an example without a size is not lawful"
    yield "size", lawful & (size > _allowed(table, record)), "a lawful example is no larger than eps"
    untouched = size == 0
    stays = (table["adv_pred"] == table["clean_pred"]) | (table["adv_pred"] == NOT_FINITE)
    yield "adv_pred", untouched & ~stays, "an image that was not changed keeps its prediction"
    missed = table["label"] != table["clean_pred"]
    yield "size", missed & ~untouched, "an image that is misclassified when clean is not attacked"
    follows = verdicts.broken(table["label"], table["clean_pred"], table["adv_pred"], lawful)
    yield "broken", table["broken"] != follows, "it does not follow from the other columns"


def _keys(table: pd.DataFrame, record: Record) -> Iterator[tuple[str, pd.Series[Any], str]]:
    entries = {label: entry for entry in record.attacks for label in entry.labels}
    yield "attack", ~table["attack"].isin(list(entries)), "no attack of this run"
    yield "index", ~table["index"].isin(record.indices), "no image of this run"
    norms = table["attack"].map({label: entry.norm for label, entry in entries.items()})
    yield "norm", table["norm"] != norms, "not the attack's norm"
    minimal = table["attack"].isin([label for label, entry in entries.items() if entry.minimal])
    grid = [eps for eps, _ in record.eps_grid or ()] or [eps for eps in [record.eps] if eps is not None]
    yield "eps", minimal & table["eps"].notna(), "a minimal attack has none"
    yield "eps", ~minimal & ~table["eps"].isin(grid), "no eps of this run"


def _allowed(table: pd.DataFrame, record: Record) -> pd.Series[Any]:
    """The largest size that a lawful example of each row may have, with the rounding of float32 storage."""
    values = math.prod(record.image or (_LARGEST_IMAGE,))
    rounding = table["norm"].map({norm: verdicts.rounding(values, norm) for norm in NORMS})
    allowed: pd.Series[Any] = (table["eps"] * (1 + verdicts.TOLERANCE) + rounding).fillna(float("inf"))
    return allowed


def _shown(value: Any) -> str:
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= 40 else f"{text[:37]}..."
