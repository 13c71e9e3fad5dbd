"""Tables of the documentation hold what stored runs hold: every cell is in the results that its comment names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import bench
from tests.docs import pages
from tests.support.checkout import ROOT

TABLES = [(page, *entry) for page in pages.PAGES for entry in pages.tables(page)]
KEYS = ("model", "claim", "data", "detector", "norm", "attack", "stage")
"""Columns that say which stored rows a row is about; `n` is held to the stored one as any number is."""
UNMEASURED = ("SO", "BIBO")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def _plain(cell: str) -> str:
    """A cell without marks, p-values and sample sizes, with one name for each data set."""
    text = re.sub(r"[*`%]|, p [=<] [\d.e-]+|, n = \d+", "", cell).strip()
    return re.sub(r"^(?:MAT|ER): ", "", text).lower().replace("cifar-10", "cifar10")


def _rows(text: str) -> Iterator[dict[str, str]]:
    """The rows of the Markdown tables in a text, by their column heads."""
    head: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            head = []
        elif not head:
            head = cells
        elif not set(line) <= set("|:- "):
            yield dict(zip(head, cells, strict=True))


def _cells(table: pd.DataFrame) -> Iterator[dict[str, str]]:
    """The rows of a table of numbers as cells in the manner of the pages: fractions in percent, limits in brackets."""
    for row in table.to_dict("records"):
        cells = {name: str(value) for name, value in row.items()}
        percent = {name: 100 * value for name, value in row.items() if isinstance(value, float) and 0 <= value <= 1}
        cells |= {f"{name} %": repr(value) for name, value in percent.items()}
        if {"robust_accuracy", "ci_low", "ci_high"} <= percent.keys():
            low, high = percent["ci_low"], percent["ci_high"]
            cells["robust_accuracy"] = f"{percent['robust_accuracy']!r} ({low!r}–{high!r})"
        yield {str(name): cell for name, cell in cells.items()}


def _rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a stored run, of a training's log (its last evaluation), or of a table as CSV or Markdown."""
    if path.is_dir():
        return _cells(bench.load_run(path).table()) if (path / "run.json").exists() else iter(())
    if path.suffix == ".md":
        return _rows(path.read_text(encoding="utf-8"))
    table = pd.read_csv(path)
    if "train_loss" in table:
        table = table.dropna(subset="held_out_accuracy").tail(1).assign(model=path.stem)
    return _cells(table)


@cache
def _stored(sources: tuple[str, ...]) -> list[dict[str, str]]:
    paths = [path for source in sources for path in sorted(ROOT.glob(source))]
    assert paths, sources
    return [row for path in paths for row in _rows_of(path)]


def _holds(shown: str, stored: str) -> bool:
    """Whether a stored cell reads as the shown one, at the digits that are shown."""
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", stored):
        return shown == stored
    for mine, theirs in zip(_NUMBER.findall(shown), _NUMBER.findall(stored), strict=True):
        digits = len(mine.partition(".")[2])
        if abs(float(mine) - float(theirs)) > 0.5 * 10.0**-digits + 1e-9:
            return False
    return True


def _pieces(cell: str) -> list[str]:
    return [piece for piece in (part.strip() for part in _plain(cell).split("→")) if piece not in ("", "–")]


@pytest.mark.parametrize(("page", "sources", "text"), TABLES, ids=[f"{t[0].stem}-{i}" for i, t in enumerate(TABLES)])
def test_cells_are_stored(page, sources, text):
    stored = _stored(sources)
    for row in _rows(text):
        keys = {_plain(value) for name, value in row.items() if name in KEYS}
        mine = [cells for cells in ({_plain(cell) for cell in other.values()} for other in stored) if keys <= cells]
        assert mine, f"{keys} stands in none of {sources}"
        known = set().union(*mine)
        for name, cell in row.items():
            if name in KEYS or name in UNMEASURED or (name == "published" and "PGD-40" in cell):
                continue
            for piece in _pieces(cell):
                assert any(_holds(piece, other) for other in known), (
                    f"{page.name}: {keys}: {name} {piece} is not stored"
                )


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_printed_runs_are_stored(page):
    for stored, shown in pages.printed_runs(page):
        assert str(bench.load_run(ROOT / stored)).strip() == shown.strip()
