"""What an audit says: signs by grade, each with what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.store.record import Record

Grade = Literal["fault", "evidence of masking", "attack too weak", "not run"]
GRADES: tuple[Grade, ...] = ("fault", "evidence of masking", "attack too weak", "not run")
"""In the order of a report. A fault is of the run, the attack or the model as it was set up: its numbers are not to be
read. Evidence of masking is of a model that looks more robust than it is."""


@dataclass(frozen=True)
class Step:
    """What to run next on the same model, images and threat model: attacks, and how they search."""

    attacks: str
    eot: int = 1
    backward: str = ""

    def __str__(self) -> str:
        eot = f" --eot {self.eot}" if self.eot > 1 else ""
        backward = f" --backward {self.backward}" if self.backward else ""
        return f"--attacks {shlex.quote(self.attacks)}{eot}{backward}"

    def command(self, record: Record) -> str:
        """The whole command for the model, the images and the threat model of a run."""
        asked = [*(record.eps_grid or ()), *([] if record.eps is None else [(record.eps, record.eps_written or "")])]
        largest, written = max(asked, default=(None, ""))
        eps = written or (None if largest is None else str(largest))
        parts = ["bench run", "--model", shlex.quote(record.model), "--data", shlex.quote(record.data)]
        choice = record.sample if record.sample == "stratified" or ":" in record.data else ""
        images = f"{choice or 'first'}:{len(record.indices)}" if choice else str(len(record.indices))
        parts += ["-n", images, "--norm", record.norm, *([] if eps is None else ["--eps", eps])]
        parts += [*(["--split", record.split] if record.split not in ("", "test") else [])]
        parts += [*(["--seed", str(record.seed)] if record.seed else [])]
        parts += [str(self)] + (["--force"] if record.forced else [])
        return " ".join(parts)


@dataclass(frozen=True)
class Sign:
    """Something seen, how grave it is, and what to do about it; `step` is what a program could run."""

    grade: Grade
    name: str
    seen: str
    remedy: str
    step: Step | None = None

    def __str__(self) -> str:
        return f"{self.grade}: {self.name}: {self.seen}; {self.remedy}"


def ordered(signs: Iterable[Sign]) -> list[Sign]:
    """Signs by grade, the gravest first, otherwise in the order found."""
    return sorted(signs, key=lambda sign: GRADES.index(sign.grade))
