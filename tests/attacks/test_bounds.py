"""Every field of an attack that a user may set says what values it takes, and the attack runs at the least of them."""

from __future__ import annotations

from dataclasses import Field, fields, replace
from typing import Any

import pytest

from bench.core.fields import settable
from bench.core.registry import attacks
from bench.core.types import Budget
from bench.core.values import Bounds
from tests.attacks.test_contract import _attack as quick
from tests.support import subjects

_FREE = {"bisection.attack", "transfer.model", "transfer.attack"}
"""Fields of any text: names of models and attacks, looked up where they are used."""


def _settable(kind: type[Any]) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name in settable(kind)]


_FIELDS = [
    (name, field)
    for name, kind in attacks.items()
    for field in _settable(kind)
    if not isinstance(field.default, bool) and f"{name}.{field.name}" not in _FREE
]
each = pytest.mark.parametrize(("name", "field"), _FIELDS, ids=[f"{name}.{field.name}" for name, field in _FIELDS])


def _bounds(field: Field[Any]) -> Bounds:
    bounds = field.metadata["bounds"]
    assert isinstance(bounds, Bounds)
    return bounds


@each
def test_numbers_state_their_least_value_and_words_the_choices(name: str, field: Field[Any]) -> None:
    bounds = _bounds(field)
    if isinstance(field.default, str):
        assert field.default in bounds.choices
        return
    assert (bounds.low is None) != (bounds.above is None)
    if isinstance(field.default, int):
        assert isinstance(bounds.low, int)


@each
def test_defaults_lie_within_their_bounds(name: str, field: Field[Any]) -> None:
    bounds, value = _bounds(field), field.default
    if value is None or bounds.choices:
        return
    assert bounds.low is None or value >= bounds.low
    assert bounds.above is None or value > bounds.above
    assert bounds.high is None or value <= bounds.high


@pytest.mark.parametrize("name", [name for name in attacks if name != "autoattack"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_attacks_run_at_the_ends_of_their_bounds(name: str, end: str) -> None:
    """All fields together at their least values, or at the largest that they state."""
    scene, kind = subjects.Scene(subjects.frozen(subjects.Centred())), attacks[name]
    bounds = {field.name: _bounds(field) for field in _settable(kind) if "bounds" in field.metadata}
    ends = {field: getattr(bound, end) for field, bound in bounds.items() if getattr(bound, end) is not None}
    attack = replace(quick(name, scene), **ends)
    x, y = subjects.images(scene.model, 5)
    for norm in kind.norms:
        budget = Budget(norm, None) if kind.minimal else subjects.budget(norm, subjects.EPS[norm], len(x))
        x_adv = attack(scene.model, x, y, budget, subjects.keys(len(x)))
        assert x_adv.isfinite().all() and x_adv.min() >= 0 and x_adv.max() <= 1
        failed = scene.model(x_adv).argmax(1) == y
        assert (x_adv[failed] == x[failed]).all()
