"""Values that users write against the types and bounds of the fields they are for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_LARGEST = 2**63 - 1  # what a tensor can hold


@dataclass(frozen=True)
class Bounds:
    """What values a field may take: numbers from `low` (or above `above`) to `high`, or one of `choices`."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()

    def hold(self, value: float) -> bool:
        """Whether a number is finite and lies within them."""
        finite = abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)
        return (
            finite
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
        )

    def __str__(self) -> str:
        words = [] if self.low is None else [f"of at least {self.low:g}"]
        words += [] if self.above is None else [f"above {self.above:g}"]
        words += [] if self.high is None else [f"at most {self.high:g}"]
        return " and ".join(words)


def fits(value: Any, hint: Any, bounds: Bounds) -> bool:
    """Whether a value is of a type, and every number in it within bounds."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is bool or isinstance(value, bool):
        return isinstance(value, bool) and hint in (bool, Any)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and bounds.hold(value)
    if hint is Any:
        return not isinstance(value, int | float) or bounds.hold(value)
    if origin in (Union, UnionType):
        return any(fits(value, arm, bounds) for arm in inner)
    if origin is Literal:
        return among(value, inner)
    if origin in (tuple, list) and inner:
        if not isinstance(value, tuple | list):
            return False
        arms = inner if origin is tuple and inner[-1] is not ... else inner[:1] * len(value)
        return len(arms) == len(value) and all(map(fits, value, arms, [bounds] * len(value)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(entry, inner[1], Bounds()) for entry in value.values())
    kind = NoneType if hint is None else origin or hint
    return not isinstance(kind, type) or isinstance(value, kind)


def among(value: Any, choices: tuple[Any, ...]) -> bool:
    """Whether a value is one of the choices, where True is not 1."""
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", NoneType: "None"}


def described(hint: Any, bounds: Bounds) -> str:
    """What a value must be, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (int, float):
        return f"{_NAMES[hint]} {bounds}".strip()
    if origin in (Union, UnionType):
        return " or ".join(described(arm, bounds) for arm in inner)
    if origin in (tuple, list) and inner:
        return f"a list, each of it {described(inner[0], bounds)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table" if inner[1] is Any else f"a table of {'strings' if inner[1] is str else 'tables'}"
    return _NAMES.get(hint, f"a number {bounds}".strip() if hint is Any else f"a {getattr(hint, '__name__', hint)}")
