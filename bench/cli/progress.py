"""How far a run is, on stderr: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

from typing import Any, TextIO

from tqdm import tqdm

from bench.evaluation import schedule
from bench.evaluation.run import Prepared
from bench.store.certificates import Row

_EVERY = 60.0
_LINE = "bench: {desc}, {n_fmt} of {total_fmt} rows, {elapsed} passed, about {remaining} left"


class Progress:
    """Images done, and the running robust accuracy of the attack under way."""

    def __init__(self, prepared: Prepared, stream: TextIO, every: float = _EVERY) -> None:
        job = prepared.job
        counts = [len(schedule.epsilons(planned, job.threats)) for planned in prepared.attacks]
        total = sum(counts) * len(job.data)
        self._bar = _bar(total, stream, every)
        self._attack = ""
        self._robust = self._seen = 0

    def __call__(self, outcome: schedule.ChunkResult) -> None:
        """Take note of a chunk."""
        if outcome.chunk.planned.label != self._attack:
            self._attack, self._robust, self._seen = outcome.chunk.planned.label, 0, 0
        rows = [row for row in outcome.verdicts if row.attack == self._attack]
        self._seen += len(rows)
        self._robust += sum(row.clean_pred == row.label and not row.broken for row in rows)
        self._bar.set_description_str(f"{self._attack}: robust {self._robust / max(self._seen, 1):.1%}", refresh=False)
        self._bar.update(len(rows))

    def close(self) -> None:
        """Leave the terminal clean."""
        self._bar.close()


class CertifyProgress:
    """Rows certified, and the running share that is proven."""

    def __init__(self, stream: TextIO, every: float = _EVERY) -> None:
        self._bar: Any = None
        self._stream, self._every = stream, every
        self._proven = self._seen = 0

    def __call__(self, row: Row, total: int) -> None:
        """Take note of a row, of so many in all."""
        if self._bar is None:
            self._bar = _bar(total, self._stream, self._every)
        self._seen += 1
        self._proven += row.certified == "true"
        self._bar.set_description_str(f"certified {self._proven / self._seen:.1%}", refresh=False)
        self._bar.update(1)

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._bar is not None:
            self._bar.close()


def _bar(total: int, stream: TextIO, every: float) -> Any:
    """A bar on a terminal; elsewhere a line each `every` seconds, so that what takes less says nothing."""
    if stream.isatty():
        return tqdm(total=total, unit="row", file=stream, leave=False)
    return tqdm(total=total, file=_Lines(stream), leave=False, mininterval=every, delay=every, bar_format=_LINE)


class _Lines:
    """A stream on which what would overwrite a line becomes a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()
