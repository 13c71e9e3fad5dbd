"""What was proven of a run's images, beside it: `certified.csv` (a row an image, norm and eps) and `certified.json`.

They sign themselves and name the weights and data they are of: a run's own signature does not know them, so that a run
can be certified after it was finished.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.core import files
from bench.core.types import NORMS, Norm, UserError
from bench.store import runs
from bench.store.json_records import free_text, number, optional
from bench.store.record import Record, Versioned, read_json

if TYPE_CHECKING:
    import pandas as pd

ROWS, RECORD = "certified.csv", "certified.json"
Verdict = Literal["true", "false", "unknown", "failed"]
VERDICTS: tuple[Verdict, ...] = ("true", "false", "unknown", "failed")
"""Proven right within eps; wrong when clean; not proven, the bound being too loose; no bound, for NaN or infinity."""
METHODS = ("clean", "ibp", "crown-ibp", "crown")
"""How a verdict came about, from the cheapest to the tightest; `clean` is the prediction on the clean image."""


@dataclass(frozen=True)
class Row:
    """A row of `certified.csv`; `lower_bound` is None where there is none."""

    index: int
    label: int
    norm: Norm
    eps: float
    certified: Verdict
    lower_bound: float | None
    method: str
    seconds: float


COLUMNS = tuple(known.name for known in fields(Row))
_TEXT = ("norm", "certified", "method")
_AGAIN = "delete it and certify the run again"


@dataclass(frozen=True, kw_only=True)
class CertificateRecord(Versioned):
    """The contents of a `certified.json`: what was certified, and where.

    `eps_written` has each eps as it was typed. `seconds` are the sum of all sessions; `certified_sha256` is of the
    rows, "" until the last of them is there.
    """

    model: str
    weights_sha256: str
    data: str
    split: str = ""
    data_sha256: str = ""
    eps_written: tuple[tuple[float, str], ...] = number((), low=0)
    versions: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    commit: str = ""
    dirty: bool | None = None
    command: str = free_text("")
    start: str = ""
    seconds: float = number(0.0, low=0)
    finished: bool = False
    certified_sha256: str = optional("")


@dataclass(frozen=True)
class Certificates:
    """The rows of a `certified.csv` (columns `COLUMNS`; lower_bound NaN where there is none), and their record."""

    table: pd.DataFrame
    record: CertificateRecord


def text(rows: Iterable[Row]) -> str:
    """Rows as a `certified.csv`, floats with all their digits, in the order norm, eps, image."""
    ordered = sorted(rows, key=lambda row: (NORMS.index(row.norm), row.eps, row.index))
    lines = [",".join(COLUMNS)]
    for row in ordered:
        lines.append(",".join("" if cell is None else str(cell) for cell in astuple(row)))
    return "\n".join(lines) + "\n"


def write(directory: Path, rows: Iterable[Row], record: CertificateRecord) -> CertificateRecord:
    """Store rows and their record, each file whole; return the record, signed if it is finished.

    A record that is not finished goes first and one that is goes last, so that rows are signed by it or by none.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    content = text(rows)
    sha256 = hashlib.sha256(content.encode()).hexdigest() if record.finished else ""
    signed = replace(record, certified_sha256=sha256)
    steps = [(RECORD, runs.dump(signed.to_dict())), (ROWS, content)]
    for name, written in steps[::-1] if record.finished else steps:
        files.write_atomically(directory / name, written)
    return signed


def load(directory: Path | None, run: Record) -> Certificates | None:
    """What was certified of the run in a folder, or None.

    Raises:
        UserError: a file is damaged or was edited, or is of other weights or data than the run.
    """
    if directory is None or not (directory / RECORD).is_file() or not (directory / ROWS).is_file():
        return None
    path = directory / RECORD
    record = CertificateRecord.from_dict(read_json(path, f"there is no {path}"), str(path))
    of = (record.weights_sha256, record.data_sha256)
    if of != (run.weights_sha256, run.data_sha256):
        raise UserError(f"{directory / ROWS} is of other weights or data than this run's: {_AGAIN}")
    content = files.read_content(directory / ROWS)
    if record.finished and hashlib.sha256(content).hexdigest() != record.certified_sha256:
        raise UserError(f"{directory / ROWS} was edited: {RECORD} holds another sha256; {_AGAIN}")
    table = _parsed(content, directory / ROWS)
    for fault in _faults(table, run):
        raise UserError(f"{directory / ROWS} is damaged: {fault}; {_AGAIN}")
    return Certificates(table, record)


def frame(made: Iterable[Row]) -> pd.DataFrame:
    """Rows as the table that `load` would read back."""
    return _parsed(text(made).encode(), Path(ROWS))


def rows(table: pd.DataFrame) -> Iterator[Row]:
    """The rows of a table."""
    for cells in table.to_dict("records"):
        known: dict[str, Any] = {str(name): value for name, value in cells.items()}
        bound = known["lower_bound"]
        yield Row(**known | {"lower_bound": None if bound != bound else bound})


def at_least(row: Row, floor: Row | None) -> Row:
    """A row with the bound of the row at a larger eps, if that is higher."""
    if floor is None or floor.lower_bound is None or row.certified == "false":
        return row
    if row.lower_bound is not None and row.lower_bound >= floor.lower_bound:
        return row
    verdict: Verdict = "true" if floor.lower_bound > 0 else "unknown"
    return replace(row, certified=verdict, lower_bound=floor.lower_bound, method=floor.method)


def stands(row: Row | None, methods: tuple[str, ...]) -> bool:
    """Whether a row needs not be made again: it is final, or of a method as tight as the tightest that is asked for."""
    if row is None:
        return False
    rank = METHODS.index
    return row.certified in ("true", "false") or rank(row.method) >= rank(methods[-1])


def _parsed(content: bytes, path: Path) -> pd.DataFrame:
    import pandas as pd

    kinds = {"index": "int64", "label": "int64", "eps": "float64", "lower_bound": "float64", "seconds": "float64"}
    missing = {"lower_bound": [""]}
    try:
        if content.split(b"\n", 1)[0] != ",".join(COLUMNS).encode():
            raise ValueError(f"it has other columns than {','.join(COLUMNS)}")
        return pd.read_csv(
            io.BytesIO(content),
            dtype=kinds | dict.fromkeys(_TEXT, "str"),
            keep_default_na=False,
            na_values=missing,
            float_precision="round_trip",
        )
    except (ValueError, OverflowError, pd.errors.ParserError) as fault:
        raise UserError(f"{path} is damaged ({files.one_line(fault)}): {_AGAIN}") from None


def _faults(table: pd.DataFrame, run: Record) -> Iterator[str]:
    looks = {
        "an image that is not the run's": ~table["index"].isin(run.indices),
        "no norm": ~table["norm"].isin(NORMS),
        "no eps": ~((table["eps"] >= 0) & (table["eps"] < float("inf"))),
        f"none of {', '.join(VERDICTS)}": ~table["certified"].isin(VERDICTS),
        f"none of {', '.join(METHODS)}": ~table["method"].isin(METHODS),
        "an image twice": table.duplicated(["index", "norm", "eps"]),
        "true without a bound above 0": (table["certified"] == "true") & ~(table["lower_bound"] > 0),
    }
    for what, wrong in looks.items():
        if wrong.any():
            yield f"line {int(wrong.to_numpy().argmax()) + 2} has {what}"
