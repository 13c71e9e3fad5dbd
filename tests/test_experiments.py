"""The lists of runs behind results/: every stored run is in one, and each group says what its runs were made with."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path

import pytest

from bench.core.types import UserError
from experiments import make
from tests.support.checkout import ROOT

LISTS = sorted((ROOT / "experiments").glob("*.toml"))
STORED = sorted(
    path for path in (ROOT / "results" / "runs").rglob("*.json") if path.name in ("run.json", "detect.json")
)


def known() -> dict[str, make.Piece]:
    listed = [piece for path in LISTS for piece in make.pieces(tomllib.loads(path.read_text(encoding="utf-8")))]
    assert len({piece.folder for piece in listed}) == len(listed), "two groups share a folder"
    return {piece.folder.name: piece for piece in listed}


def options(words: list[str] | tuple[str, ...]) -> dict[str, object]:
    """The options of a command, without where it writes; attacks in any order."""
    rest = [word for word in words[1:] if word not in ("--resume", "--save-adversarial")]
    pairs = dict(zip(rest[::2], rest[1::2], strict=True))
    return {name: sorted(value.split(",")) for name, value in pairs.items() if name != "--out"}


def test_every_stored_run_is_listed_as_it_was_made() -> None:
    listed = known()
    for path in STORED:
        command = json.loads(path.read_text(encoding="utf-8"))["command"]
        assert options(shlex.split(command)[1:]) == options(listed[path.parent.name].commands[0]), path.parent.name


def test_settings_take_up_words_and_give_way_to_those_of_a_pattern() -> None:
    content = {
        "models": {"both": ["a_net", "b_net"]},
        "words": {"few": "pgd(steps=2)", "more": "{few},cw"},
        "group": [
            {"name": "g", "models": ["both"], "part": "p", "command": "run", "n": 5, "attacks": "{more}",
             "where": [{"models": ["b_*"], "n": 3}]},
        ],
    }  # fmt: skip
    first, second = make.pieces(content)
    assert first.folder == Path("results/runs/a_net-p") and options(first.commands[0])["--attacks"] == [
        "cw",
        "pgd(steps=2)",
    ]
    assert options(first.commands[0])["-n"] == ["5"] and options(second.commands[0])["-n"] == ["3"]


def test_an_unknown_key_is_refused() -> None:
    group = {"name": "g", "models": ["m"], "command": "run", "atacks": "pgd"}
    with pytest.raises(UserError, match="atacks"):
        list(make.pieces({"group": [group]}))


def test_a_run_is_made_aside_and_then_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    group = {"name": "g", "models": ["mat_digits"], "part": "few", "command": "run", "n": 8, "attacks": "pgd(steps=2)"}
    (piece,) = make.pieces({"group": [group]})
    piece.folder.mkdir(parents=True)
    (piece.folder / "old").touch()
    make.make(piece)
    assert not piece.is_made and piece.staged().is_made
    make.put_in_place(piece)
    assert {path.name for path in piece.folder.iterdir()} == {"run.json", "verdicts.csv.gz"}
    record = json.loads((piece.folder / "run.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("bench run --model mat_digits --out results/runs/mat_digits-few")
