"""The signature of a finished run: `run.json` holds the sha256 of its rows, images and search ways.

It is a hash without a secret: it shows a file that was edited, not a forger who signs anew. Images and search ways may
be deleted: then nothing can be read from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core import files
from bench.core.types import UserError
from bench.store import ways
from bench.store.record import Record

IMAGES, LOSSES = "adversarial.npz", ways.FILE
_BESIDE = {IMAGES: "adversarial_sha256", LOSSES: "losses_sha256"}
"""The files beside the rows, and the keys of a record that hold their sha256."""


def of_rows(content: bytes) -> str:
    """The signature of the plain bytes of a `verdicts.csv`; packing them does not change it."""
    return hashlib.sha256(content).hexdigest()


def of_record(record: Record) -> str:
    """The signature of a record: of all its keys but the one that holds it, in any order."""
    keys = {name: value for name, value in record.to_dict().items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()


def record_fault(record: Record) -> str | None:
    """Whether a finished run's record was edited or has lost its signature, as a text; None for older runs."""
    if not record.finished or record.behaviour is None:
        return None
    if not (record.record_sha256 and record.verdicts_sha256):
        return "it has lost the signature that a finished run has"
    return None if record.record_sha256 == of_record(record) else "it was edited after the run ended"


def _of_file(path: Path) -> str:
    """The signature of a file beside the rows, "" where there is none.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return files.sha256_of(path) if path.is_file() else ""
    except OSError as error:
        raise UserError(f"{path} cannot be read ({files.one_line(error)}): check the file") from None


def signed(record: Record, directory: Path, content: bytes) -> Record:
    """The record of a run that is finished with the plain bytes `content` of its `verdicts.csv`.

    Raises:
        UserError: it was finished before, with other rows or images.
    """
    now = {key: _of_file(directory / name) for name, key in _BESIDE.items()}
    images = record.adversarial_sha256
    if record.verdicts_sha256 and (
        record.verdicts_sha256 != of_rows(content) or now[_BESIDE[IMAGES]] not in ("", images)
    ):
        raise UserError(
            f"{directory} is not the run that was finished: rows that were kept were edited, or this machine "
            "rounds otherwise; make it again in another --out"
        )
    if record.verdicts_sha256:
        now[_BESIDE[IMAGES]] = images
    beside: dict[str, Any] = now
    return replace(record, verdicts_sha256=of_rows(content), **beside)


def faults(directory: Path, record: Record, content: bytes) -> Iterator[str]:
    """The files of a finished run that are not those it was finished with, as texts; none where it is not signed."""
    if not record.finished or not record.verdicts_sha256:
        return
    if of_rows(content) != record.verdicts_sha256:
        yield f"{directory / 'verdicts.csv'} was edited after the run ended: run.json holds another sha256"
    yield from _edited_beside(directory, record)


def _edited_beside(directory: Path, record: Record) -> Iterator[str]:
    for name, key in _BESIDE.items():
        known = getattr(record, key)
        # Runs were signed before search ways were; images that nobody signed are nobody's.
        if (known or name == IMAGES) and _of_file(directory / name) not in ("", known):
            yield f"{directory / name} was edited after the run ended: run.json holds another sha256"


def refuse_other_files(directory: Path, record: Record) -> None:
    """Refuse to go on with a finished run whose images or search ways are not those that it was finished with.

    Raises:
        UserError: they are not.
    """
    if record.finished and record.verdicts_sha256:
        for fault in _edited_beside(directory, record):
            raise UserError(f"{fault}; give back the file as it was, or make the run again in another --out")
