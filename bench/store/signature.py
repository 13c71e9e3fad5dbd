"""The signature of a finished run: `run.json` holds the sha256 of its rows and of its adversarial images.

It is a hash without a secret: it shows a file that was edited, not a forger who signs anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.core import files
from bench.core.types import UserError
from bench.store.record import Record

IMAGES = "adversarial.npz"


def of_rows(content: bytes) -> str:
    """The signature of the plain bytes of a `verdicts.csv`; packing them does not change it."""
    return hashlib.sha256(content).hexdigest()


def of_images(directory: Path) -> str:
    """The signature of a run's adversarial images, "" where it has none.

    Raises:
        UserError: they cannot be read.
    """
    path = directory / IMAGES
    try:
        return files.sha256_of(path) if path.is_file() else ""
    except OSError as error:
        raise UserError(f"{path} cannot be read ({files.one_line(error)}): check the file") from None


def signed(record: Record, directory: Path, content: bytes) -> Record:
    """The record of a run that is finished with the plain bytes `content` of its `verdicts.csv`."""
    return replace(record, verdicts_sha256=of_rows(content), adversarial_sha256=of_images(directory))


def faults(directory: Path, record: Record, content: bytes) -> Iterator[str]:
    """The files of a finished run that are not those it was finished with, as texts; none where it is not signed."""
    if not record.finished or not record.verdicts_sha256:
        return
    if of_rows(content) != record.verdicts_sha256:
        yield f"{directory / 'verdicts.csv'} was edited after the run ended: run.json holds another sha256"
    images = of_images(directory)
    if images and images != record.adversarial_sha256:
        yield f"{directory / IMAGES} was edited after the run ended: run.json holds another sha256"


def refuse_other_images(directory: Path, record: Record) -> None:
    """Refuse to go on with a finished run whose adversarial images are not those that it was finished with.

    Raises:
        UserError: they are not.
    """
    if record.finished and record.adversarial_sha256 and of_images(directory) not in ("", record.adversarial_sha256):
        remedy = "give back the file as it was, or make the run again in another --out"
        raise UserError(f"{directory / IMAGES} was edited after the run ended: run.json holds another sha256; {remedy}")
