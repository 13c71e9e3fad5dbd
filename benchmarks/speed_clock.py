"""Timing two sides in turn, and what is learnt once of each without a clock: its passes and its verdicts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.attacks.peers.isolation import watched
from bench.ops import active_set, passes
from benchmarks import speed_floor
from benchmarks.speed_sides import Answer, Scene, Side


@dataclass(frozen=True)
class Spent:
    """Seconds of one run: of the process on the CPU, and on the wall."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Known:
    """What a run that was not timed showed: passes an image on average, verdicts, and the schedule if it is ours."""

    forwards: float
    backwards: float
    answer: Answer | None
    schedule: tuple[speed_floor.Pass, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """The median, lowest and highest of several quotients."""

    middle: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """The quotients of two sides' costs, run by run in the order in which they alternated."""
    quotients = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(median(quotients), min(quotients), max(quotients))


def looked_at(scene: Scene, side: Side) -> Known:
    """Run a side once, which also warms it up; count its passes and judge what it returns."""
    images = len(scene.data)
    if side.counts:
        with speed_floor.recorded() as schedule:
            result = side.run()
        forwards, backwards = speed_floor.totals(schedule)
        return Known(forwards / images, backwards / images, side.judged(result), tuple(schedule))
    rows = active_set.everything(scene.data.labels)
    with passes.counted(images) as tally, watched(scene.model, rows):
        result = side.run()
    return Known(float(tally.forwards[0]), float(tally.backwards[0]), side.judged(result))


def timed(run: Callable[[], Any]) -> Spent:
    """The cost of one run; what it returns is dropped."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def alternate(first: Side, second: Side, repeats: int) -> tuple[list[Spent], list[Spent]]:
    """Time both sides in turn: first, second, first, second, so that a slow minute hits both."""
    pairs = [(timed(first.run), timed(second.run)) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
