"""Damage to a run: whole lines are kept, the others named and made again; edits are refused; nothing is lost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.types import UserError
from bench.store import runs
from bench.store.record import Behaviour
from bench.store.writer import Writer
from tests.support.stored_runs import entry, record, rows


def behaviour(shift: float = 0.0, random: bool = False) -> Behaviour:
    values = tuple((1.0 + shift, 2.0, float(place)) for place in range(4))
    return Behaviour(random=random, noise=2, values=values, scales=(1.0,) * 4)


FACTS = {
    "arch": "mlp",
    "args": {"mean": 0},
    "classes": 10,
    "image": (1, 8, 8),
    "sources": {"m.py": "ab", "n.py": "cd"},
    "behaviour": behaviour(),
    "trained_with": {"kl": {"beta": 6.0}},
}
OLD = record(attacks=(entry("pgd"),), indices=tuple(range(12)), eps=0.3, eps_written="0.3", finished=False)
RECORD = replace(OLD, **FACTS)
ROWS = rows("pgd", 4, n=12)


def finish(writer: Writer) -> bytes:
    """Make what a run lacks, and return its rows as they lie there."""
    with writer:
        done = writer.done()
        writer.append([row for row in ROWS if runs.trial(row.attack, row.norm, row.eps, row.index) not in done])
        writer.finish()
        return (writer.directory / "verdicts.csv").read_bytes()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return finish(Writer.create(tmp_path / "run", RECORD))


@pytest.fixture
def run(tmp_path: Path, whole: bytes) -> Path:
    return tmp_path / "run"


@pytest.mark.parametrize("place", range(0, 500, 23))
def test_one_bad_byte_costs_one_row(run: Path, whole: bytes, place: int) -> None:
    bad = bytearray(whole)
    bad[place] ^= 0x80
    (run / "verdicts.csv").write_bytes(bad)
    with pytest.raises(UserError, match="--resume"):
        runs.load(run)
    writer = Writer.resume(run, RECORD)
    (note,) = writer.notes
    line = whole[:place].count(b"\n") + 1
    assert f"dropped line {line} (" in note and "made again" in note
    assert finish(writer) == whole
    assert len(runs.load(run).verdicts) == 12


@pytest.mark.parametrize(
    ("cut", "named"),
    [(b"\x00\x00", "line 3 (no row)"), (b"2,2,2,cw,linf,0.3,3,0.02,True,True,40,40", "line 3 (a row of another run)")],
)
def test_what_is_no_row_of_the_run_is_dropped(run: Path, whole: bytes, cut: bytes, named: str) -> None:
    lines = whole.split(b"\n")
    (run / "verdicts.csv").write_bytes(b"\n".join([*lines[:2], cut, *lines[3:]]))
    writer = Writer.resume(run, RECORD)
    assert named in writer.notes[0]
    assert finish(writer) == whole


def test_lines_that_two_processes_wrote_alike_are_kept_once(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as writer:
        writer.append(ROWS[:4])
    path = tmp_path / "verdicts.csv"
    path.write_text(path.read_text() + runs.lines(ROWS[1:6]))
    assert list(runs.load(tmp_path).verdicts["index"]) == list(range(6))
    again = Writer.resume(tmp_path, RECORD)
    assert len(again.done()) == 6 and again.notes == ()
    assert finish(again).count(b"\n") == 13


def test_lines_that_differ_are_refused(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as writer:
        writer.append(ROWS[:4])
    path = tmp_path / "verdicts.csv"
    path.write_text(path.read_text() + runs.lines([replace(ROWS[1], forwards=41)]))
    before = path.read_bytes()
    for look in (runs.load, lambda place: Writer.resume(place, RECORD)):
        with pytest.raises(UserError, match="judges image 1 twice under pgd, each time otherwise"):
            look(tmp_path)
    assert path.read_bytes() == before


def test_a_row_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as writer:
        writer.append(ROWS[:4])
    path = tmp_path / "verdicts.csv"
    path.write_text(path.read_text().replace("True,True", "True,False", 1))
    with pytest.raises(UserError, match=r"was edited: line 3, broken False: .*; delete that line, and --resume"):
        Writer.resume(tmp_path, RECORD)


def test_a_finished_run_whose_kept_rows_were_edited_is_not_finished_again(run: Path, whole: bytes) -> None:
    edited = whole.replace(b",0.04,True,True,", b",0.05,True,True,")
    (run / "verdicts.csv").write_bytes(edited[: edited.rfind(b"\n", 0, -1) + 1])
    with pytest.raises(UserError, match="is not the run that was finished: rows that were kept were edited"):
        finish(Writer.resume(run, RECORD))
    assert not runs.read_record(run).finished
    with pytest.raises(UserError, match="was edited after the run ended"):
        Writer.resume(run, RECORD)
    (run / "verdicts.csv").unlink()
    assert finish(Writer.resume(run, RECORD)) == whole and runs.read_record(run).finished


def test_a_folder_that_is_deleted_is_noticed_and_not_made_again(tmp_path: Path) -> None:
    writer = Writer.create(tmp_path / "run", RECORD)
    with pytest.raises(UserError, match="was deleted or replaced while the run wrote to it") as caught, writer:
        writer.append(ROWS[:4])
        shutil.rmtree(tmp_path / "run")
        writer.append(ROWS[4:8])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="was deleted"), Writer.create(tmp_path / "run", RECORD) as other:
        (tmp_path / "run").rename(tmp_path / "moved")
        Writer.create(tmp_path / "run", RECORD).close()
        other.append(ROWS[:4])
    assert runs.load(tmp_path / "run").verdicts.empty
    with pytest.raises(UserError, match="was deleted"), Writer.create(tmp_path / "last", RECORD) as last:
        last.append(ROWS)
        shutil.rmtree(tmp_path / "last")
        last.finish()
    assert not (tmp_path / "last").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arch": "cnn"}, 'arch "mlp", not "cnn"'),
        ({"args": {"mean": 0.5}}, 'args {"mean": 0}, not {"mean": 0.5}'),
        ({"classes": 11}, "classes 10, not 11"),
        ({"image": (3, 8, 8)}, r"image \[1, 8, 8\], not \[3, 8, 8\]"),
        ({"sources": {"m.py": "ab", "n.py": "ef"}}, "another n.py"),
        ({"sources": {"m.py": "ab"}}, "another n.py"),
        ({"trained_with": {}}, "trained_with"),
        ({"defense": "mat"}, 'defense "", not "mat"'),
        ({"behaviour": behaviour(0.01)}, "a model whose logits are others on 4 of 4 images that were tried"),
        ({"behaviour": behaviour(random=True)}, "a model that answers the same at each call, not otherwise"),
    ],
)
def test_another_model_is_not_resumed(tmp_path: Path, change: dict[str, object], said: str) -> None:
    Writer.create(tmp_path, RECORD).close()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"was made with {said}.*: choose another --out"):
        Writer.resume(tmp_path, replace(RECORD, **change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    Writer.resume(tmp_path, replace(RECORD, behaviour=behaviour(1e-5))).close()


def test_other_clean_predictions_are_not_resumed(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as writer:
        writer.append(ROWS[:4])
    clean = {row.index: (row.label, row.clean_pred) for row in ROWS}
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match="a model that predicts 3 for the clean image 3, not 8"):
        Writer.resume(tmp_path, RECORD, clean | {3: (3, 8)})
    with pytest.raises(UserError, match="has the label 3 for image 3, not 5"):
        Writer.resume(tmp_path, RECORD, clean | {3: (5, 3)})
    assert (tmp_path / "run.json").read_bytes() == before
    Writer.resume(tmp_path, RECORD, clean | {9: (3, 8)}).close()  # no row says anything of it


def test_what_an_older_run_does_not_say_of_its_model_is_told(tmp_path: Path) -> None:
    Writer.create(tmp_path, OLD).close()
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text("\n".join(line for line in text.splitlines() if '"args"' not in line))
    with Writer.resume(tmp_path, replace(RECORD, arch="", trained_with={})) as writer:
        (note,) = writer.notes
    assert note.endswith("model's args, sources, classes, image, behaviour: that it is the same model is not proven")
    assert "args" not in runs.read_record(tmp_path).order


def test_resuming_where_nothing_is_says_so(tmp_path: Path) -> None:
    with Writer.resume(tmp_path / "new", RECORD) as writer:
        assert writer.notes == (f"{tmp_path / 'new'} holds no run yet: it starts there",)
