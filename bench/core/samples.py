"""What `-n` asks for: how many images of a data set, and which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bench.core.text import shown
from bench.core.types import UserError

Choice = Literal["auto", "first", "stratified"]
"""`first`: in official order. `stratified`: of each class its share, drawn by seed. `auto`: stratified where the set is
ordered by class, so that its first images are of few classes, and first elsewhere."""


@dataclass(frozen=True)
class Sample:
    """So many images, chosen so."""

    count: int
    choice: Choice = "auto"


def parse_sample(written: str) -> Sample:
    """Read "1000", "first:1000" or "stratified:1000".

    Raises:
        UserError: it is none of them.
    """
    choice, colon, digits = written.strip().rpartition(":")
    known = [name for name in get_args(Choice) if (name == choice) == bool(colon) and (name == "auto") != bool(colon)]
    if not known or not (digits.isascii() and digits.isdigit() and len(digits) < 19 and int(digits)):
        remedy = "write a whole number of at least 1, as in -n 1000, -n first:1000 or -n stratified:1000"
        named = digits if not colon and digits.isdecimal() and len(digits) < 19 else shown(written)
        raise UserError(f"-n {named} is no number of images: {remedy}")
    return Sample(int(digits), known[0])
