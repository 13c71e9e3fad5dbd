"""Stanzas: what is written reads back, what is replaced leaves its neighbours, what is mistyped is named."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.types import Checkpoint, ThreatModel, UserError
from bench.models import stanza_text, stanzas
from tests.support.checkout import ROOT

REGISTRY = ROOT / "checkpoints.toml"
STANZA = Checkpoint("b", "mlp", {"widths": [1, 2]}, trained_with={"pgd": {"steps": 3, "rate": 1e-5, "flag": True}})


def read(text: str, path: Path) -> dict[str, Checkpoint]:
    path.write_text(text, encoding="utf-8")
    return stanzas.read(path)


def test_the_registrys_own_stanzas_are_written_as_they_stand() -> None:
    text = REGISTRY.read_text(encoding="utf-8")
    trained = [stanza for stanza in stanzas.read(REGISTRY).values() if stanza.command]
    assert len(trained) > 40
    for stanza in trained:
        assert stanza_text.text_of(stanza) in text
    assert stanza_text.with_stanza(text, trained[len(trained) // 2]) == text


def test_every_stanza_reads_back(tmp_path: Path) -> None:
    for stanza in stanzas.read(REGISTRY).values():
        (back,) = read(stanza_text.text_of(stanza), tmp_path / "one.toml").values()
        assert replace(back, home=stanza.home) == stanza


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALAR = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), TEXT)
TABLE = st.dictionaries(TEXT, st.one_of(SCALAR, st.lists(st.integers(0, 9), max_size=3)), max_size=3)


@given(
    arch=st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=8),
    args=TABLE,
    trained_with=st.dictionaries(TEXT, TABLE, max_size=2),
    rename=st.dictionaries(TEXT, TEXT, max_size=2),
    command=TEXT,
    trained_for=st.sampled_from([None, ThreatModel("l2", None), ThreatModel("linf", 8 / 255, "8/255")]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_stanza_reads_back(tmp_path: Path, **values: object) -> None:
    stanza = Checkpoint(name="a.b-c", **values)  # type: ignore[arg-type]
    (back,) = read(stanza_text.text_of(stanza), tmp_path / "one.toml").values()
    assert replace(back, home=stanza.home) == stanza


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ("", {}),
        ('[a]\nx = "1"', {"a": {"x": "1"}}),
        ("# only\n", {}),
        ('[b]\nx = "1"\n', {}),
        ('[b]\nx = "1"\n[c]\ny = "1"\n', {"c": {"y": "1"}}),
        ('[b]\nx = "1"\n[c]\ny = "1"\n[b.rename]\np = "q"\n', {"c": {"y": "1"}}),
        ('b.arch = "x"\n', {}),
        ('b = { arch = "x" }\n[c]\ny = "1"\n', {"c": {"y": "1"}}),
    ],
)
def test_replaced_or_added_whatever_the_text(before: str, kept: dict[str, object]) -> None:
    after = stanza_text.with_stanza(before, STANZA)
    assert {name: entry for name, entry in tomllib.loads(after).items() if name != "b"} == kept
    assert tomllib.loads(after)["b"] == tomllib.loads(stanza_text.text_of(STANZA))["b"]
    assert stanza_text.with_stanza(after, STANZA) == after
    assert ("# only" in before) == ("# only" in after)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('trained_for = { norm = "linf", eps = 8 }', "eps 8 in linf is beyond the range of images"),
        ('trained_for = { norm = "linf", eps = "1e-99999999" }', "is not a number"),
        ("trained_for = 3", "trained_for is not a norm and an eps"),
        ("trained_with = { pgd = 3 }", "trained_with must be a table of tables"),
        ("rename = { a = 3 }", "rename must be a table of strings"),
        ("args = 3", "args must be a table"),
        ('home = "/"', "unknown key 'home'"),
        ('name = "x"', "unknown key 'name'"),
        ("published = { clean = nan }", "published must be a table"),
        ('arch = ""', "has no arch"),
        (f"data = {'9' * 5000}", "is not TOML"),
        (f"args = {'[' * 5000}", "is not TOML"),
    ],
)
def test_a_mistyped_key_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    first = "" if text.startswith("arch") else 'arch = "mlp"\n'
    with pytest.raises(UserError) as caught:
        read(f"[x]\n{first}{text}\n", tmp_path / "c.toml")
    assert said in str(caught.value) and "c.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_registry_that_is_not_toml_is_refused() -> None:
    with pytest.raises(UserError, match="is not TOML"):
        stanza_text.with_stanza("[a\n", STANZA)
