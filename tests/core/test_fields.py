"""One validator for everything that users write into fields: types, bounds, names, and the same ones everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core import registry
from bench.core.fields import bounded, build, check_value, hint_of, settable
from bench.core.from_specs import attack_from, from_spec
from bench.core.specs import Spec, parse_specs
from bench.core.types import UserError


@dataclass(frozen=True)
class Plain:
    """Fields without bounds of their own, as a plug-in has them."""

    steps: int = 10
    offset: int = 0
    rate: float = 0.5
    shift: float = -1.0
    size: float | None = None
    levels: int | None = None
    name: str = "a"
    flag: bool = False
    sizes: tuple[int, ...] = (10, 20)
    kind: Literal["one", "two"] = "one"
    table: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    open: Any = 3
    wide: Any = None
    hidden: Any = field(default=None, metadata={"bound": True})


@dataclass(frozen=True)
class Bounded:
    """Fields with bounds, and one that must be given."""

    share: float = bounded(low=0, high=1)
    above: float = bounded(1.0, above=0)
    few: int = bounded(2, low=2, high=5)
    word: str = bounded("x", choices=("x", "y"))


@dataclass(frozen=True)
class Unreadable:
    """Annotations that cannot be read at run time."""

    steps: Nowhere = 10  # type: ignore[name-defined]  # noqa: F821
    rate: Nowhere = 0.5  # type: ignore[name-defined]  # noqa: F821


TAKEN = {
    "steps": [1, 2**62],
    "offset": [0, 7],
    "rate": [0, 0.0, 1e300],
    "shift": [-5, 2.5],
    "size": [None, 0, 1, 0.5],
    "levels": [None, 0, 3],
    "name": ["", "b"],
    "flag": [True, False],
    "sizes": [(), (1,), (1, 2)],
    "kind": ["one", "two"],
    "table": [{}, {"a": -1, "b": "x"}],
    "tables": [{}, {"a": {"b": 1}}],
    "open": [1, 8],
    "wide": [None, 2.5],
}
HUGE = 10**400
REFUSED = {
    "steps": [0, -5, 1.0, True, None, "1", HUGE, math.nan],
    "offset": [-1, 0.0, False],
    "rate": [-0.1, math.inf, math.nan, None, "1", True, HUGE, 1j],
    "shift": [None, math.nan, -HUGE],
    "size": [-1, math.nan, "x", True],
    "levels": [2.5, -1, True],
    "name": [1, None, b"a", True],
    "flag": [1, 0, None, "True"],
    "sizes": [(0,), (1, "a"), (True,), 1, None, (1.5,)],
    "kind": ["three", 1, None, True],
    "table": [3, "a", None, {"a": math.nan}],
    "tables": [{"a": 3}, 3],
    "open": [0, 1.5, "a", None],
    "wide": [-1, "x"],
}
CASES = [(name, value) for name, values in TAKEN.items() for value in values]
BAD = [(name, value) for name, values in REFUSED.items() for value in values]


def refusal(kind: type, values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        build(kind, values, "thing 'it'")
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize(("name", "value"), CASES)
def test_values_of_the_type_are_taken_as_they_are(name: str, value: Any) -> None:
    made = build(Plain, {name: value}, "thing")
    assert getattr(made, name) is value or getattr(made, name) == value


@pytest.mark.parametrize(("name", "value"), BAD, ids=range(len(BAD)))
def test_others_are_refused(name: str, value: Any) -> None:
    assert refusal(Plain, {name: value}).startswith(f"thing 'it': {name} cannot be ")


def test_bounds_belong_to_fields() -> None:
    assert build(Bounded, {"share": 1, "above": 1e-9, "few": 5, "word": "y"}, "it") == Bounded(1, 1e-9, 5, "y")
    for name, value, must in [
        ("share", -0.1, "give a number of at least 0 and at most 1"),
        ("share", 1.5, "give a number of at least 0 and at most 1"),
        ("above", 0, "give a number above 0"),
        ("few", 1, "give a whole number of at least 2 and at most 5"),
        ("word", "z", "known: x, y"),
    ]:
        assert must in refusal(Bounded, {"share": 0, name: value})


def test_names() -> None:
    assert refusal(Plain, {"step": 1}).startswith("thing 'it' has no field 'step': did you mean steps")
    assert refusal(Plain, {"hidden": 1}).startswith("thing 'it' has no field 'hidden'")
    assert refusal(Bounded, {}) == "thing 'it' has no share: give it"
    assert build(Plain, {}, "it", hidden="by the program").hidden == "by the program"


def test_annotations_that_cannot_be_read_leave_it_to_the_default() -> None:
    assert build(Unreadable, {"steps": 3, "rate": 1}, "it") == Unreadable(3, 1)
    assert "whole number of at least 1" in refusal(Unreadable, {"steps": 2.5})
    assert "rate cannot be -1" in refusal(Unreadable, {"rate": -1})


KINDS = [
    (f"{word} {name}", kind)
    for word, known in (("attack", registry.attacks), ("probe", registry.probes), ("detector", registry.detectors))
    for name, kind in known.items()
]


@pytest.mark.parametrize(("what", "kind"), KINDS, ids=[what for what, _ in KINDS])
def test_every_default_is_within_its_own_bounds(what: str, kind: type) -> None:
    for part in fields(kind):
        if part.name in settable(kind):
            check_value(what, part, part.default, hint_of(kind, part))


@pytest.mark.parametrize(("what", "kind"), KINDS, ids=[what for what, _ in KINDS])
def test_every_number_is_refused_below_its_bounds(what: str, kind: type) -> None:
    for part in fields(kind):
        numeric = isinstance(part.default, int | float) and not isinstance(part.default, bool)
        for bad in (math.nan, math.inf, -math.inf, "x", *([-3] if numeric and part.default >= 0 else [])):
            if part.name in settable(kind) and not (isinstance(part.default, str) and bad == "x"):
                with pytest.raises(UserError, match=part.name):
                    check_value(what, part, bad, hint_of(kind, part))


@given(st.sampled_from(KINDS), st.data())
def test_any_literal_is_taken_or_refused_in_one_line(pair: tuple[str, type], data: st.DataObject) -> None:
    what, kind = pair
    if not settable(kind):
        return
    name = data.draw(st.sampled_from(settable(kind)))
    value = data.draw(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.tuples(st.floats()))
    )
    try:
        build(kind, {name: value}, what)
    except UserError as fault:
        assert "\n" not in str(fault) and len(str(fault)) < 400


class TestTheSameBoundsWhereverAValueIsWritten:
    BAD = ("pgd(steps=-3)", "pgd(restarts=0)", "square(queries=0)", "multi_targeted(steps=-3)", "pgd(random_start=1)")

    @pytest.mark.parametrize("written", BAD)
    def test_in_a_spec(self, written: str) -> None:
        with pytest.raises(UserError, match=r"cannot be"):
            attack_from(parse_specs(written)[0], {})

    @pytest.mark.parametrize("written", BAD)
    def test_inside_transfer(self, written: str) -> None:
        class Scene:
            classes = 10

            def surrogate(self, name: str) -> Any:
                return lambda x: x

        transfer: Any = attack_from(Spec("transfer", (("model", "any"), ("attack", written))), {})
        with pytest.raises(UserError, match=r"cannot be"):
            transfer.bind(Scene())

    @pytest.mark.parametrize("written", BAD)
    def test_in_a_models_stanza(self, written: str) -> None:
        spec = parse_specs(written)[0]
        with pytest.raises(UserError, match=rf"^trained_with\.{spec.name} of the model: \w+ cannot be"):
            attack_from(Spec(spec.name), {spec.name: dict(spec.fields)})

    def test_what_no_field_is_named_for_in_a_stanza_is_left_aside(self) -> None:
        told = {"pgd": {"steps": 7, "weights": -1}}
        assert attack_from(Spec("pgd"), told) == attack_from(Spec("pgd", (("steps", 7),)), {})

    def test_a_class_in_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.py"
        path.write_text(
            "from dataclasses import dataclass\n"
            "@dataclass(frozen=True)\nclass Mine:\n    steps: int = 3\n"
            "    needs = ()\n    norms = ('linf',)\n    minimal = False\n"
        )
        assert vars(attack_from(Spec(f"{path}:Mine", (("steps", 5),)), {})) == {"steps": 5}
        assert vars(from_spec("probe", registry.probes, Spec(f"{path}:Mine"))) == {"steps": 3}
        for word, name in (("attack", "Mine"), ("probe", "Mine")):
            with pytest.raises(UserError, match="steps cannot be 0: give a whole number of at least 1"):
                spec = Spec(f"{path}:{name}", (("steps", 0),))
                attack_from(spec, {}) if word == "attack" else from_spec(word, registry.probes, spec)
        with pytest.raises(UserError, match="is not a detector: give a dataclass with the class attribute needs"):
            from_spec("detector", registry.detectors, Spec(f"{path}:dataclass"))
        with pytest.raises(UserError, match=r"probe file '.*none\.py' not found"):
            from_spec("probe", registry.probes, Spec(f"{tmp_path}/none.py:Mine"))
