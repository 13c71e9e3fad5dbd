"""The floor: what the passes of an attack cost by themselves, without the attack.

An attack is run once and its schedule kept: for each call of the model, how many images it was for and how many
backward passes followed. The replay makes the same calls, the same number of rows each, on clean images with frozen
weights: a forward pass, and `autograd.grad` of the summed logits with respect to the input. Nothing else happens, so
no attack that makes these passes can be faster. The rows are those that the attack needed, without the padding to whole
quadruples that `bench.ops.passes` adds: padding counts as our overhead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.ops.counting import tally


@dataclass(frozen=True)
class Pass:
    """One call of the model: a forward pass over `rows` images and `backwards` passes back to them."""

    rows: int
    backwards: int


@contextmanager
def recorded() -> Iterator[list[Pass]]:
    """The schedule of everything that is counted inside the block; for a run that is not timed."""
    schedule: list[Pass] = []

    class Recorder(tally.Tally):
        def add(self, rows: Tensor, bad: Tensor, forwards: int, backwards: int) -> None:
            super().add(rows, bad, forwards, backwards)
            schedule.append(Pass(len(rows), backwards))

    with mock.patch.object(tally, "Tally", Recorder):
        yield schedule


def totals(schedule: Sequence[Pass]) -> tuple[int, int]:
    """Rows that went forward and rows that came back."""
    return sum(one.rows for one in schedule), sum(one.rows * one.backwards for one in schedule)


def bare(model: Any, x: Tensor, backwards: int = 1) -> None:
    """A forward pass over images x (n, C, H, W), and a gradient on them for each of `backwards` sums of logits."""
    if not backwards:
        with torch.no_grad():
            model(x)
        return
    z = x.detach().requires_grad_(True)
    logits = model(z)
    totals = [logits.sum()] if backwards == 1 else [logits[:, j % logits.shape[1]].sum() for j in range(backwards)]
    for turn, total in enumerate(totals):
        torch.autograd.grad(total, z, retain_graph=turn < backwards - 1)


def replay(model: Any, x: Tensor, schedule: Sequence[Pass]) -> None:
    """Make the passes of a schedule with a prepared model on images x (N, C, H, W), N at least the rows of a pass."""
    for one in schedule:
        bare(model, x[: one.rows], one.backwards)
