"""Whatever is typed as eps, grid or spec: it is read, or refused quickly in one short line; what is read reads back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from keyword import iskeyword
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bench.core.eps import parse_eps, parse_eps_grid, spelled
from bench.core.specs import Spec, parse_specs
from bench.core.types import UserError

NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.floats(0, 1e6, allow_nan=False).map(repr),
    st.decimals(0, 10, places=5, allow_nan=False).map(str),
)
EPS = st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS).map("/".join))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not iskeyword(name))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=4).map(tuple))
SPECS = st.builds(
    lambda name, fields: Spec(name, tuple(fields.items())),
    NAMES,
    st.dictionaries(NAMES, VALUES, max_size=4),
)
PIECES = st.sampled_from([*"()[],='-1e/{ \"\\\0\né", "pgd", "9" * 50, "None"])
TYPED = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join))


def reads(parse: Callable[[str], Any], written: str) -> Any:
    """What is read, or None where it is refused in one short line; never slowly."""
    began = time.perf_counter()
    try:
        return parse(written)
    except UserError as fault:
        text = str(fault)
        assert "\n" not in text and text.isprintable() and len(text) < 300
    finally:
        assert time.perf_counter() - began < 2
    return None


@given(EPS)
@example("1e-320/1e300")
@settings(deadline=None)
def test_an_eps_is_the_nearest_float_to_what_is_written(written: str) -> None:
    top, _, bottom = written.partition("/")
    divisor = Fraction(bottom) if bottom else Fraction(1)
    value = reads(parse_eps, written)
    if divisor and value is not None:
        assert value == float(Fraction(top) / divisor) and math.isfinite(value)


@given(TYPED)
@settings(deadline=None)
def test_any_text_is_an_eps_or_refused(written: str) -> None:
    value = reads(parse_eps, written)
    assert value is None or (math.isfinite(value) and value >= 0)


@given(EPS, EPS, st.integers(2, 40))
@settings(deadline=None)
def test_a_grid_rises_from_end_to_end_and_reads_back(low: str, high: str, count: int) -> None:
    grid = reads(parse_eps_grid, f"{low}:{high}:{count}")
    if grid is not None:
        values = [value for value, _ in grid]
        assert len(values) == count and values == sorted(set(values))
        assert (values[0], values[-1]) == (parse_eps(low), parse_eps(high))
        if "/" in low + high:
            assert [parse_eps(text) for _, text in grid] == values


@given(st.fractions(0, 1, max_denominator=10**6), st.integers(1, 10**6))
@settings(deadline=None)
def test_an_eps_spelled_as_a_fraction_reads_back(eps: Fraction, bottom: int) -> None:
    assert parse_eps(spelled(eps, f"1/{bottom}")) == float(eps)


@given(st.one_of(TYPED, st.lists(TYPED, max_size=4).map(":".join), st.lists(EPS, max_size=6).map(",".join)))
@settings(deadline=None)
def test_any_text_is_a_grid_or_refused(written: str) -> None:
    grid = reads(parse_eps_grid, written)
    assert grid is None or [value for value, _ in grid] == sorted({value for value, _ in grid})


@given(st.lists(SPECS, min_size=1, max_size=5, unique=True))
@settings(deadline=None)
def test_specs_read_back_as_they_are_written(specs: list[Spec]) -> None:
    assume(all(len(str(spec)) < 500 for spec in specs))
    assert parse_specs(",".join(map(str, specs))) == specs
    assert parse_specs(" , ".join(map(str, specs))) == specs


@given(TYPED, st.sampled_from(["attack", "probe", "detector"]))
@settings(deadline=None)
def test_any_text_is_a_list_of_specs_or_refused(written: str, kind: str) -> None:
    specs = reads(lambda text: parse_specs(text, kind), written)
    assert specs is None or all(spec.name and hash(spec) is not None for spec in specs)


@given(TYPED)
@settings(deadline=None)
def test_any_text_is_an_argument_or_refused(written: str) -> None:
    reads(parse_specs, f"pgd(a={written})")


LONG = {
    "1e-99999999": parse_eps,
    "0e99999999": parse_eps,
    "1e99999999": parse_eps,
    "1e-9999999999999999999999": parse_eps,
    "9" * 400: parse_eps,
    "9" * 10**6: parse_eps,
    "1/" * 10**5: parse_eps,
    "1/1e-99999999": parse_eps,
    "0:1e-99999999:5": parse_eps_grid,
    "0:1:1000000000": parse_eps_grid,
    f"0:1:{'9' * 10**5}": parse_eps_grid,
    "0," * 10**6: parse_eps_grid,
    f"pgd(a={'-' * 1900}1)": parse_specs,
    f"pgd(a={'-' * 3000}1)": parse_specs,
    f"pgd(a={'-' * 10**6}1)": parse_specs,
    f"pgd(a={'(' * 900}1{')' * 900})": parse_specs,
    f"pgd(a={'[' * 10**5})": parse_specs,
    f"pgd(a={'9' * 400})": parse_specs,
    f"pgd(a={'9' * 5000})": parse_specs,
    f"pgd(a=0x{'f' * 1900})": parse_specs,
    "pgd(a=1e999)": parse_specs,
    "pgd," * 10**5: parse_specs,
    "pgd" * 10**6: parse_specs,
    "pgd(a='\0')": parse_specs,
    "pgd(a='\udcff')": parse_specs,
}


@pytest.mark.parametrize("written", LONG, ids=lambda text: text[:20].encode("unicode_escape").decode())
def test_what_is_long_or_deep_is_refused_quickly(written: str) -> None:
    assert reads(LONG[written], written) is None


@pytest.mark.parametrize(
    ("written", "specs"),
    [
        (
            "transfer(attack='pgd(steps=3,restarts=2)'),cw",
            [Spec("transfer", (("attack", "pgd(steps=3,restarts=2)"),)), Spec("cw")],
        ),
        ("a(b=')('),c", [Spec("a", (("b", ")("),)), Spec("c")]),
        (r"a(b='\'),(',c=1)", [Spec("a", (("b", "'),("), ("c", 1)))]),
        ("/home/o'neil/x.py:A,pgd", [Spec("/home/o'neil/x.py:A"), Spec("pgd")]),
        ("a(b=[[1,2],[3]])", [Spec("a", (("b", ((1, 2), (3,))),))]),
    ],
)
def test_brackets_and_commas_in_quotes_are_letters(written: str, specs: list[Spec]) -> None:
    assert parse_specs(written) == specs
