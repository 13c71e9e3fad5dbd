"""How many cases are tried, under which clock, and what may come of one.

`BENCH_FUZZ=local` tries about 2,000 cases, as when a reader of files changes; without it about 300 are tried. Both draw
from a fixed seed, and what was once mishandled stays as an `@example`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bench.core.types import UserError

T = TypeVar("T")
PROPERTIES = 12
_CASES = 2000 if os.environ.get("BENCH_FUZZ") == "local" else 300
_SECONDS = 60

fuzzed = settings(
    max_examples=-(-_CASES // PROPERTIES),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def in_time() -> Iterator[None]:
    """A case that hangs is a failure, not the end of the tests."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def taken(read: Callable[..., T], *args: Any) -> T | None:
    """What is read, or None where it is refused in one short line. Whatever else comes out is a failure."""
    with in_time():
        try:
            return read(*args)
        except UserError as fault:
            assert "\n" not in str(fault) and 0 < len(str(fault)) < 3000
            return None


NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2, 10**400, -(10**400), 2**63, 1e308, 5e-324, True, -0.0]),
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "x" * 5000, "../../x", "\0", "\x1b[31m", "<script>", "os:system", "8/255", "1e400", "nan", "linf"]
    ),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which a few were altered, cut out, doubled or cut off."""
    altered = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(altered) - 1, 0)))
        match draw(st.sampled_from(["byte", "cut", "end", "twice", "word"])):
            case "byte":
                altered[place : place + 1] = draw(st.binary(min_size=1, max_size=2))
            case "cut":
                del altered[place : place + draw(st.integers(1, 40))]
            case "end":
                del altered[place:]
            case "twice":
                altered[place:place] = altered[place : place + draw(st.integers(1, 80))]
            case "word":
                altered[place:place] = draw(TEXTS).encode(errors="surrogatepass")
    return bytes(altered)


@st.composite
def altered(draw: st.DrawFn, table: Any) -> Any:
    """A tree of dicts and lists in which one value, at any depth, is another, or a key is gone or new."""
    if isinstance(table, dict) and table and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(table)))
        change = draw(st.sampled_from(["inside", "inside", "inside", "gone", "new"]))
        rest = {name: value for name, value in table.items() if name != key}
        if change == "gone":
            return rest
        return {**table, draw(TEXTS): draw(VALUES)} if change == "new" else {**table, key: draw(altered(table[key]))}
    if isinstance(table, list) and table and draw(st.integers(0, 2)):
        place = draw(st.integers(0, len(table) - 1))
        return [*table[:place], draw(altered(table[place])), *table[place + 1 :]]
    return draw(VALUES)
