"""Whatever is typed: it is read as what it says, or refused in one line."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from bench.core import registry
from bench.core.eps import parse_eps, parse_eps_grid
from bench.core.fields import settable
from bench.core.from_specs import attack_from, check_trained_with, from_spec
from bench.core.specs import Spec, parse_specs
from tests.fuzz.cases import NUMBERS, TEXTS, VALUES, fuzzed, taken

ATTACKS = sorted(registry.attacks)
SHORT = NUMBERS.map(lambda number: str(number)[:12])
EPS = st.one_of(
    TEXTS,
    NUMBERS.map(str),
    st.builds("{}{}e{}/{}".format, st.sampled_from(["", "-", "+", " "]), SHORT, SHORT, SHORT),
)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """An attack with a few of its own fields, set to anything."""
    name = draw(st.sampled_from(ATTACKS))
    names = settable(registry.attacks[name]) or ["steps"]
    literals = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.lists(st.integers(-3, 30), max_size=3).map(tuple))
    return Spec(name, tuple(draw(st.dictionaries(st.sampled_from(names), literals, max_size=3)).items()))


@fuzzed
@given(specs())
@example(Spec("pgd", (("steps", -5),)))
@example(Spec("pgd", (("restarts", 0),)))
def test_an_attack_has_the_fields_that_were_written(spec: Spec) -> None:
    attack = taken(attack_from, spec, {})
    if attack is not None:
        for name, value in spec.fields:
            held = getattr(attack, name)
            assert held == value and not (isinstance(value, float) and not math.isfinite(value))


@fuzzed
@given(st.lists(specs(), min_size=1, max_size=3), st.integers(0, 300), TEXTS)
def test_a_list_that_is_broken_anywhere_is_read_or_refused(known: list[Spec], place: int, more: str) -> None:
    try:
        written = ",".join(map(str, known))
    except ValueError:  # a number with more digits than Python writes
        return
    broken = written[:place] + more + written[place:]
    for spec in taken(parse_specs, broken) or ():
        taken(attack_from, spec, {})
        taken(from_spec, "detector", registry.detectors, spec)


@fuzzed
@given(EPS)
@example("1e-99999999")
@example("0e99999999")
@example("1e400")
def test_an_eps_is_the_number_that_was_written(written: str) -> None:
    value = taken(parse_eps, written)
    if value is not None:
        top, _, bottom = written.partition("/")
        assert value == float(Fraction(top.strip()) / Fraction(bottom.strip() or 1)) and 0 <= value < math.inf


@fuzzed
@given(EPS, EPS, st.one_of(st.integers(-3, 50), st.just(10**9)), st.sampled_from([":", ",", "::"]))
@example("0", "1", 10**9, ":")
def test_a_grid_rises_from_end_to_end(low: str, high: str, count: int, between: str) -> None:
    grid = taken(parse_eps_grid, f"{low}{between}{high}{between}{count}")
    if grid is not None:
        values = [value for value, _ in grid]
        assert values == sorted(set(values)) and all(0 <= value < math.inf for value in values)
        assert between != ":" or len(values) == count


TRAINED_WITH = st.dictionaries(
    st.one_of(st.sampled_from(ATTACKS), TEXTS),
    st.dictionaries(st.sampled_from(["steps", "beta", "base", "eps"]), VALUES, max_size=2),
    max_size=2,
)


@fuzzed
@given(TRAINED_WITH)
@example({"pgd": {"steps": -5}})
@example({"transfer": {"attack": "evil.py:A"}})
def test_what_a_model_was_trained_with_keeps_to_the_attacks_bounds(said: dict[str, dict[str, Any]]) -> None:
    def all_of(known: dict[str, dict[str, Any]]) -> bool:
        check_trained_with(known)
        return True

    if taken(all_of, said):
        for name in said:
            if name in registry.attacks:
                assert taken(attack_from, Spec(name), said) is not None
