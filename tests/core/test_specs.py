"""What users type: eps, eps grids, attack lists."""

from __future__ import annotations

import pytest

from bench.core.eps import _exact, parse_eps, parse_eps_grid, spelled
from bench.core.specs import Spec, parse_specs
from bench.core.types import UserError


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("written", "value"),
    [("8/255", 8 / 255), ("0", 0.0), ("0.031", 0.031), (".5", 0.5), ("1e-3", 1e-3), ("0.5/255", 0.5 / 255), ("3", 3.0)],
)
def test_eps(written: str, value: float) -> None:
    assert parse_eps(written) == value


@pytest.mark.parametrize("numerator", range(256))
def test_eps_is_the_nearest_float(numerator: int) -> None:
    assert parse_eps(f"{numerator}/255") == numerator / 255


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("8/0", "divides by zero"),
        ("0/0", "divides by zero"),
        ("nan", "not a number"),
        ("inf", "not a number"),
        ("8/inf", "not a number"),
        ("1e999", "not a number"),
        ("", "not a number"),
        (" ", "not a number"),
        ("8/", "not a number"),
        ("/255", "not a number"),
        ("/", "not a number"),
        ("1/2/3", "not a number"),
        ("eight", "not a number"),
        ("8,255", "not a number"),
        ("0x10", "not a number"),
        ("-0.1", "at least 0"),
        ("8/-255", "at least 0"),
    ],
)
def test_eps_refuses(written: str, fault: str) -> None:
    with pytest.raises(UserError) as error:
        parse_eps(written)
    text = one_line(error)
    assert fault in text
    assert repr(written) in text


def test_grid_range_holds_its_fractions_exactly() -> None:
    grid = parse_eps_grid("0:16/255:17")
    assert [value for value, _ in grid] == [k / 255 for k in range(17)]
    assert grid[0] == (0.0, "0")
    assert grid[8] == (8 / 255, "8/255")


@pytest.mark.parametrize("written", ["0:16/255:17", "0:0.3:4", "0.5/255:8.5/255:5", "0: 8 / 255:2"])
def test_grid_range_reads_back(written: str) -> None:
    grid = parse_eps_grid(written)
    assert [parse_eps(as_written) for _, as_written in grid] == [value for value, _ in grid]
    assert [value for value, _ in grid] == sorted(value for value, _ in grid)


def test_grid_list_is_sorted_and_keeps_what_was_written() -> None:
    assert parse_eps_grid("4/255, 0,2/255") == [(0.0, "0"), (2 / 255, "2/255"), (4 / 255, "4/255")]
    assert parse_eps_grid("0.3") == [(0.3, "0.3")]
    assert parse_eps_grid("0.1,0.1") == [(0.1, "0.1")]


@pytest.mark.parametrize(
    "written",
    [
        " ",
        ",",
        "0,x",
        "0,-1",
        "0:1",
        "0:1:2:3",
        "0:1:1",
        "0:1:0",
        "0:1:-3",
        "0:1:2.5",
        "0:1:",
        "0:1:²",
        "::",
        ":1:3",
        "1:0:3",
        "1:1:3",
        "0:8/0:3",
        "0:nan:3",
        "-1:1:3",
        "0:inf:3",
        "0:1/2/3:3",
        "",
    ],
)
def test_grid_refuses(written: str) -> None:
    with pytest.raises(UserError) as error:
        parse_eps_grid(written)
    assert "eps" in one_line(error)


@pytest.mark.parametrize(
    ("written", "specs"),
    [
        ("pgd", [Spec("pgd")]),
        ("pgd()", [Spec("pgd")]),
        (" pgd , cw ", [Spec("pgd"), Spec("cw")]),
        ("pgd(steps=100),cw", [Spec("pgd", (("steps", 100),)), Spec("cw")]),
        ("pgd(steps=10, alpha=2/255)", [Spec("pgd", (("steps", 10), ("alpha", 2 / 255)))]),
        ("pgd(alpha=-2/255)", [Spec("pgd", (("alpha", -2 / 255),))]),
        ("pgd(loss='a,b'),cw", [Spec("pgd", (("loss", "a,b"),)), Spec("cw")]),
        (
            "x(a=[1,2],b=(3,4),c=None,d=True)",
            [Spec("x", (("a", (1, 2)), ("b", (3, 4)), ("c", None), ("d", True)))],
        ),
        ("foolbox:NAME(a=1)", [Spec("foolbox:NAME", (("a", 1),))]),
        ("pgd,pgd(steps=1)", [Spec("pgd"), Spec("pgd", (("steps", 1),))]),
    ],
)
def test_attacks(written: str, specs: list[Spec]) -> None:
    assert parse_specs(written) == specs
    assert parse_specs(",".join(map(str, specs))) == specs


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (",", "is not name"),
        ("pgd,,cw", "is not name"),
        ("pgd,", "is not name"),
        ("pgd,pgd", "twice"),
        ("pgd(a=1),cw,pgd(a=1)", "twice"),
        ("pgd(steps=100", "brackets"),
        ("pgd steps=100)", "brackets"),
        ("(steps=1)", "is not name"),
        (")pgd(", "is not name"),
        ("pgd(100)", "is not name"),
        ("pgd(*a)", "is not name"),
        ("pgd(**a)", "is not name"),
        ("pgd(steps=)", "is not name"),
        ("pgd(steps=1)x", "is not name"),
        ("pgd(a=1)(b=2)", "is not name"),
        ("pgd().run(b=2)", "is not name"),
        ("pgd(a=1,a=2)", "is not name"),
        ("pgd(steps=1) + (2)", "is not name"),
        ("pgd(a=steps)", "literal"),
        ("pgd(a=1/0)", "literal"),
        ("pgd(a=2**3)", "literal"),
        ("pgd(a=__import__('os').getcwd())", "literal"),
        ("pgd(a=open('x'))", "literal"),
        ("pgd(a=[i for i in 'ab'])", "literal"),
        ("pgd(a=lambda: 1)", "literal"),
    ],
)
def test_attacks_refuse(written: str, fault: str) -> None:
    with pytest.raises(UserError) as error:
        parse_specs(written)
    assert fault in one_line(error)


@pytest.mark.parametrize(
    ("eps", "like", "text"),
    [
        ("15/255", "16/255", "15/255"),
        ("0.25/255", "2/255", "0.25/255"),
        ("1/765", "8/255", "1/765"),
        ("0", "8/255", "0"),
        ("0.15", "0.3", "0.15"),
    ],
)
def test_an_eps_is_spelled_like_another(eps, like, text):
    assert spelled(_exact(eps), like) == text and parse_eps(text) == parse_eps(eps)
