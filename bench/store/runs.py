"""Runs as directories of plain files: the one thing that what makes runs and what views them share.

A run is `run.json` (its recipe, its provenance, what it cost) and `verdicts.csv` (one row an image, attack and eps).
Rows are appended as they are made and reach the disk before `append` returns, so a killed run loses one chunk at most
(`bench.store.writer`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.files import one_line
from bench.core.types import UserError, Verdict
from bench.store import signature
from bench.store.consistency import record_faults, row_faults
from bench.store.record import Record, read_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tuple(field.name for field in fields(Verdict))

Trial = tuple[str, str, str, int]
"""What a row is about: (attack, norm, repr of eps or "", index)."""

KINDS = {
    "index": "int64",
    "label": "int64",
    "clean_pred": "int64",
    "attack": "str",
    "norm": "str",
    "eps": "float64",
    "adv_pred": "int64",
    "size": "float64",
    "lawful": "bool",
    "broken": "bool",
    "forwards": "int64",
    "backwards": "int64",
}
"""What the cells of each column are."""


@dataclass(frozen=True)
class Run:
    """The verdicts of a run (columns `COLUMNS`; eps NaN for minimal attacks) and the record of how they were made.

    `searches`, where it is known, is how the attacks' searches went (see `bench.store.ways`).
    """

    verdicts: pd.DataFrame
    record: Record
    directory: Path | None = None
    searches: pd.DataFrame | None = None


def trial(attack: str, norm: str, eps: float | None, index: int) -> Trial:
    """The key of a row, as `Writer.done` holds it."""
    return attack, norm, "" if eps is None else repr(float(eps)), int(index)


def costs(verdicts: pd.DataFrame, record: Record) -> tuple[int, int]:
    """The forward and backward passes of a run; those of stages are in their ensemble's."""
    whole = verdicts[~verdicts["attack"].isin(record.stage_labels)]
    return int(whole["forwards"].sum()), int(whole["backwards"].sum())


def lines(rows: Iterable[Verdict]) -> str:
    """Verdicts as lines of `verdicts.csv`: floats with all their digits, True and False, an empty eps for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        # `float` first: NumPy's own repr of a scalar names its type.
        eps = None if row.eps is None else repr(float(row.eps))
        cells = dict(zip(COLUMNS, astuple(row), strict=True)) | {"eps": eps, "size": repr(float(row.size))}
        writer.writerow(cells.values())
    return text.getvalue()


_AGAIN = "give back the file as it was, or delete it and make its rows again with --resume"
_SALVAGE = "--resume keeps its whole rows and makes the others again"
HEADER = ",".join(COLUMNS) + "\n"


def frame(rows: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts as the table that `load` would read back."""
    return parse(HEADER + lines(rows), "verdicts")


def dump(record: Mapping[str, Any]) -> str:
    """A record as JSON, one key a line, so that a difference between two runs is a difference of few lines."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()) + "\n}\n"


def whole_lines(content: bytes) -> bytes:
    """The lines of a file that are whole, each once: a last one may be torn, and one that two processes wrote twice."""
    lines = content.split(b"\n")[:-1]
    return b"".join(line + b"\n" for line in dict.fromkeys(lines))


def parse(text: str, name: str) -> pd.DataFrame:
    """The text of a `verdicts.csv` as a table; a row that stands there twice alike is read once.

    Raises:
        UserError: `name` has other columns, a damaged row, or two unlike rows of one image, attack and eps.
    """
    import pandas as pd  # a third of torch's own time: a run needs it when it has ended

    if text.partition("\n")[0] != HEADER.strip():
        raise UserError(f"{name} has other columns than {HEADER.strip()}: it is not a run's")
    try:
        table = pd.read_csv(
            io.StringIO(text),
            dtype=KINDS,
            float_precision="round_trip",
            keep_default_na=False,
            na_values={"eps": [""], "size": ["nan"]},
        )
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise UserError(f"{name} is damaged ({one_line(error)}): {_SALVAGE}") from None
    key = ["attack", "norm", "eps", "index"]
    if table.duplicated(key).any():
        table = table.drop_duplicates(ignore_index=True)
        twice = table.duplicated(key)
        if twice.any():
            row = table[twice].iloc[0]
            where = f"image {row['index']} twice under {row['attack']}, each time otherwise"
            raise UserError(f"{name} judges {where}: {_AGAIN}")
    return table


def read_record(directory: Path, doubted: bool = False) -> Record:
    """Read `run.json`.

    Raises:
        UserError: it is missing or damaged, or has another schema version; or, unless it is `doubted` as it is by who
            looks for such things, it contradicts itself.
    """
    path = directory / "run.json"
    record = Record.from_dict(read_json(path, f"{directory} holds no run: there is no run.json in it"), str(path))
    for fault in () if doubted else record_faults(record):
        raise UserError(f"{path} is damaged: {fault}; give it back as it was, or make the run again")
    if not doubted and (edited := signature.record_fault(record)):
        raise UserError(f"{path}: {edited}; give it back as it was, or make the run again")
    return record


def wanted(record: Record) -> int:
    """How many rows a record asks for."""
    grid = len(record.eps_grid or [None])
    rows = [len(attack.labels) * (1 if attack.minimal else grid) for attack in record.attacks]
    return sum(rows) * len(record.indices)


def trials(record: Record) -> Iterator[Trial]:
    """What the rows that a record asks for are about."""
    grid: list[float | None] = [eps for eps, _ in record.eps_grid or ()] or [record.eps]
    for attack in record.attacks:
        bounds: list[float | None] = [None] if attack.minimal else grid
        for label, eps, index in product(attack.labels, bounds, record.indices):
            yield trial(label, attack.norm, eps, index)


def missing(run: Run) -> int:
    """How many of the rows that a run's record asks for are not there."""
    return wanted(run.record) - len(run.verdicts)


def verdicts_path(directory: Path) -> Path:
    """The file of a run's rows: `verdicts.csv`, or where there is none, `verdicts.csv.gz`."""
    plain, packed = directory / "verdicts.csv", directory / "verdicts.csv.gz"
    return plain if plain.is_file() or not packed.is_file() else packed


_LONGEST_ROW = 512


def read_rows(directory: Path, record: Record) -> bytes:
    """The plain bytes of a run's `verdicts.csv`, which may be gzipped.

    Raises:
        UserError: it is not there, cannot be read, or is longer than the rows that the record asks for can be.
    """
    path = verdicts_path(directory)
    labels = max((len(label) for label in record.labels), default=0)
    limit = len(HEADER) + 2 * wanted(record) * (_LONGEST_ROW + labels)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = bytes(file.read(limit + 1)) if path.is_file() else b""
    except FileNotFoundError:
        raise UserError(f"{directory} holds no verdicts: there is no verdicts.csv in it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}): run it again") from None
    if len(content) > limit:
        raise UserError(f"{path} is longer than the rows of its run.json can be: {_AGAIN}")
    return content


def table_of(content: bytes, path: Path) -> pd.DataFrame:
    """The rows in the whole lines of a `verdicts.csv`.

    Raises:
        UserError: as `parse`.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): {_SALVAGE}") from None
    return parse(text, str(path))


def load(directory: Path | str, finished: bool = False) -> Run:
    """Read a run, and hold its rows to its record and to its signature; `verdicts.csv` may be gzipped.

    Raises:
        UserError: a file is missing or damaged, or of another schema version; rows contradict the record or each other;
            rows are missing of a run that says it is finished, or are not those that it was finished with; or with
            `finished`, it is not.
    """
    home = Path(directory)
    record = read_record(home)
    if finished and not record.finished:
        raise UserError(f"{home} is not finished: continue it with --resume")
    path, content = verdicts_path(home), whole_lines(read_rows(home, record))
    run = Run(table_of(content, path), record, home)
    for fault in row_faults(run.verdicts, record):
        raise UserError(f"{path} was edited or damaged: {fault}; {_AGAIN}")
    if record.finished and (lost := missing(run)) > 0:
        raise UserError(f"{path} lacks {lost} rows of a finished run: make them again with --resume")
    for fault in signature.faults(home, record, content):
        raise UserError(f"{fault}; give back the file as it was, or make the run again")
    return run
