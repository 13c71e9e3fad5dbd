"""Peak memory: the most that torch's CPU allocator had given out at once during a run, above what was held before.

Taken from torch's profiler, which reports every allocation and release of that allocator, those inside kernels and in
the backward pass too. So the figure is exact and the same each time, where the resident size of a process also shows
what malloc keeps back for later and how it cut it up. What a kernel's library allocates by itself is not seen, on
either side of the ratio.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile


def highest(changes: Iterable[int]) -> int:
    """The highest running sum of allocations (positive) and releases (negative); at least 0."""
    return max(accumulate(changes, initial=0))


def peak(run: Callable[[], Any]) -> int:
    """The most bytes that a run held at once."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    results = seen.profiler.kineto_results if seen.profiler else None
    events = [event for event in results.events() if event.name() == "[memory]"] if results else []
    return highest(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
