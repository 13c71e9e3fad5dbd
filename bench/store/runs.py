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
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.types import UserError, Verdict
from bench.store.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tuple(field.name for field in fields(Verdict))

Trial = tuple[str, str, str, int]
"""What a row is about: (attack, norm, repr of eps or "", index)."""

_TYPES = {
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


@dataclass(frozen=True)
class Run:
    """The verdicts of a run (columns `COLUMNS`; eps NaN for minimal attacks) and the record of how they were made."""

    verdicts: pd.DataFrame
    record: Record
    directory: Path | None = None


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


_AGAIN = "delete it and make its rows again with --resume"
HEADER = ",".join(COLUMNS) + "\n"


def frame(rows: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts as the table that `load` would read back."""
    return parse(HEADER + lines(rows), "verdicts")


def dump(record: Mapping[str, Any]) -> str:
    """A record as JSON, one key a line, so that a difference between two runs is a difference of few lines."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()) + "\n}\n"


def whole_lines(content: bytes) -> bytes:
    """Drop a last line that was torn: everything after the last line end."""
    return content[: content.rfind(b"\n") + 1]


def parse(text: str, name: str) -> pd.DataFrame:
    """The text of a `verdicts.csv` as a table.

    Raises:
        UserError: `name` has other columns, a damaged row, or an image twice under one attack and eps.
    """
    import pandas as pd  # a third of torch's own time: a run needs it when it has ended

    if text.partition("\n")[0] != HEADER.strip():
        raise UserError(f"{name} has other columns than {HEADER.strip()}: it is not a run's")
    try:
        table = pd.read_csv(
            io.StringIO(text),
            dtype=_TYPES,
            float_precision="round_trip",
            keep_default_na=False,
            na_values={"eps": [""], "size": ["nan"]},
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{name} is damaged ({str(error).splitlines()[0]}): {_AGAIN}") from None
    if table.duplicated(["attack", "norm", "eps", "index"]).any():
        raise UserError(f"{name} judges an image twice under one attack: two processes wrote it; {_AGAIN}")
    return table


def read_record(directory: Path) -> Record:
    """Read `run.json`.

    Raises:
        UserError: it is missing or damaged, or has another schema version.
    """
    path = directory / "run.json"
    return Record.from_dict(read_json(path, f"{directory} holds no run: there is no run.json in it"), str(path))


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The JSON object of this schema version in a file; `missing` says what its absence means.

    Raises:
        UserError: it is missing, is not JSON, or has another schema version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(missing) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is not JSON; delete {path.parent} and make it again") from None
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, not {SCHEMA_VERSION}: read it with the bench that wrote it"
        )
    return dict(record)


def missing(run: Run) -> int:
    """How many of the rows that a run's record asks for are not there."""
    grid = len(run.record.eps_grid or [None])
    trials = [len(attack.labels) * (1 if attack.minimal else grid) for attack in run.record.attacks]
    return sum(trials) * len(run.record.indices) - len(run.verdicts)


def load(directory: Path | str, finished: bool = False) -> Run:
    """Read a run; `verdicts.csv` may be gzipped.

    Raises:
        UserError: a file is missing or damaged, or of another schema version; rows are missing of a run that says it is
            finished; or with `finished`, it is not.
    """
    home = Path(directory)
    record = read_record(home)
    if finished and not record.finished:
        raise UserError(f"{home} is not finished: continue it with --resume")
    plain, packed = home / "verdicts.csv", home / "verdicts.csv.gz"
    path = plain if plain.exists() or not packed.exists() else packed
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path == packed else content
        text = whole_lines(content).decode()
    except FileNotFoundError:
        raise UserError(f"{home} holds no verdicts: there is no verdicts.csv in it") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({str(error) or 'it ends early'}): run it again") from None
    run = Run(parse(text, str(path)), record, home)
    if record.finished and (lost := missing(run)):
        raise UserError(f"{path} lacks {lost} rows of a finished run: make them again with --resume")
    return run
