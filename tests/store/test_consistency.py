"""Rows that contradict their record or each other are refused in a line that names the row and the column."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.types import UserError, Verdict
from bench.store import runs
from bench.store.consistency import record_faults, row_faults
from bench.store.record import Record
from bench.store.writer import Writer
from tests.support.stored_runs import entry, record, rows

EPS = 0.3
RECORD = record(
    attacks=(entry("pgd"), entry("ddn", norm="l2", minimal=True)),
    indices=tuple(range(12)),
    eps=EPS,
    eps_written="0.3",
    classes=10,
    image=(1, 28, 28),
)
ROWS = [*rows("pgd", 4, n=12), *rows("ddn", 6, eps=None, norm="l2", n=12)]


def stored(place: Path, made: list[Verdict], about: Record = RECORD) -> Path:
    """A finished run of some rows, unsigned, as an older version left it."""
    place.mkdir(exist_ok=True)
    (place / "run.json").write_text(runs.dump(about.to_dict()))
    (place / "verdicts.csv").write_text(runs.HEADER + runs.lines(made))
    return place


def test_sound_rows_have_no_fault(tmp_path: Path) -> None:
    assert list(row_faults(runs.frame(ROWS), RECORD)) == [] == list(record_faults(RECORD))
    assert len(runs.load(stored(tmp_path / "a", ROWS)).verdicts) == 24
    old = replace(RECORD, classes=None, image=None)
    assert len(runs.load(stored(tmp_path / "b", ROWS, old)).verdicts) == 24


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        (2, {"index": 99999}, "line 4, index 99999: no image of this run"),
        (2, {"label": 10}, "line 4, label 10: no such class"),
        (2, {"label": -1}, "line 4, label -1: no such class"),
        (14, {"label": 7}, "line 16, label 7: another row of the same image has another"),
        (14, {"clean_pred": 3, "adv_pred": 3}, "line 16, clean_pred 3: another row of the same image has another"),
        (2, {"clean_pred": 10}, "line 4, clean_pred 10: no such class"),
        (2, {"adv_pred": 77}, "line 4, adv_pred 77: no such class"),
        (2, {"adv_pred": -2}, "line 4, adv_pred -2: no such class"),
        (2, {"attack": "cw"}, "line 4, attack 'cw': no attack of this run"),
        (2, {"norm": "l2"}, "line 4, norm 'l2': not the attack's norm"),
        (2, {"eps": 0.2}, "line 4, eps 0.2: no eps of this run"),
        (2, {"eps": None}, "line 4, eps nan: no eps of this run"),
        (14, {"eps": 0.3}, "line 16, eps 0.3: a minimal attack has none"),
        (2, {"size": -5.0}, "line 4, size -5.0: a size is 0 or more"),
        (2, {"size": 0.31}, "line 4, size 0.31: a lawful example is no larger than eps"),
        (2, {"size": float("nan")}, "line 4, lawful True: an example without a size is not lawful"),
        (2, {"size": 0.0}, "line 4, adv_pred 3: an image that was not changed keeps its prediction"),
        (0, {"size": 0.1}, "line 2, size 0.1: an image that is misclassified when clean is not attacked"),
        (2, {"broken": False}, "line 4, broken False: it does not follow from the other columns"),
        (2, {"lawful": False}, "line 4, broken True: it does not follow from the other columns"),
        (0, {"broken": True}, "line 2, broken True: it does not follow from the other columns"),
        (2, {"forwards": -1}, "line 4, forwards -1: a count is 0 or more"),
        (2, {"backwards": -1}, "line 4, backwards -1: a count is 0 or more"),
    ],
)
def test_a_row_that_was_edited_is_named(tmp_path: Path, place: int, change: dict[str, Any], said: str) -> None:
    made = list(ROWS)
    made[place] = replace(made[place], **change)
    with pytest.raises(UserError) as caught:
        runs.load(stored(tmp_path, made))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'verdicts.csv'} was edited or damaged: ")


def test_a_size_may_be_beyond_eps_by_rounding_alone() -> None:
    made = [replace(ROWS[2], size=EPS * (1 + 9e-7)), *ROWS[3:]]
    assert list(row_faults(runs.frame(made), RECORD)) == []
    made = [replace(ROWS[2], size=EPS * (1 + 3e-6)), *ROWS[3:]]
    assert "no larger than eps" in next(row_faults(runs.frame(made), RECORD))


def test_an_unlawful_row_may_have_any_size() -> None:
    for size in (0.9, float("nan"), float("inf")):
        made = [replace(ROWS[2], size=size, lawful=False, broken=False), *ROWS[3:]]
        assert list(row_faults(runs.frame(made), RECORD)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": -5}, "batch_size is -5, not a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size is 0, not a whole number of at least 1"),
        ({"eps": -0.1}, "eps is -0.1, not a number of at least 0"),
        ({"eps": float("nan")}, "eps is nan, not a number of at least 0"),
        ({"eps": 0.4}, "eps 0.4 was written '0.3'"),
        ({"eps_written": "nonsense"}, "eps 0.3 was written 'nonsense'"),
        ({"eps_grid": []}, "eps_grid is empty"),
        ({"eps_grid": [[-1.0, "-1"]]}, "eps_grid is .*, not a number of at least 0"),
        ({"indices": []}, "indices names no image, or one of them twice"),
        ({"indices": [1, 1]}, "indices names no image, or one of them twice"),
        ({"indices": [-1]}, "indices is .*, not a number of at least 0"),
        ({"draws": 0}, "draws is 0, not a whole number of at least 1 and at most 10000"),
        ({"draws": 10**9}, "draws is 1000000000, not a whole number"),
        ({"eot": -5}, "eot is -5, not a whole number"),
        ({"classes": 1}, "classes is 1, not a number of at least 2"),
        ({"forwards": -1}, "forwards is -1, not a whole number of at least 0"),
        ({"backwards": -1}, "backwards is -1, not a whole number of at least 0"),
        ({"seconds": float("inf")}, "seconds is inf, not a number of at least 0"),
        ({"attack_seconds": {"pgd": -1.0}}, "attack_seconds is .*, not a number of at least 0"),
        ({"zero_gradients": 2.0}, "zero_gradients is 2.0, not a number of at least 0 and at most 1"),
        ({"model": "a\x1b[31m"}, "model holds a control character"),
        ({"data": "a\nb"}, "data holds a control character"),
        ({"model": "a\u202eb"}, "model holds a control character"),
        ({"attacks": [entry("pgd").to_dict()] * 2}, "attacks names one of them twice"),
    ],
)
def test_a_record_that_cannot_be_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    values = RECORD.to_dict() | change
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=said) as caught:
        runs.read_record(tmp_path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'} is damaged: ")


def test_what_is_no_record_at_all_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for text in ("[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}", '{"schema_version": "x"}', "\udcff", ""):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UserError, match=r"run\.json") as caught:
            runs.read_record(tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="holds no run"):
        runs.read_record(tmp_path)


class TestSignature:
    """A finished run holds the sha256 of its rows and images: an edit is seen by whoever reads it."""

    def made(self, place: Path) -> Path:
        with Writer.create(place, replace(RECORD, finished=False)) as writer:
            writer.append(ROWS)
            writer.finish()
        return place

    def test_it_is_the_sha256_of_the_plain_text(self, tmp_path: Path) -> None:
        import gzip
        import hashlib

        place = self.made(tmp_path / "a")
        content = (place / "verdicts.csv").read_bytes()
        assert runs.read_record(place).verdicts_sha256 == hashlib.sha256(content).hexdigest()
        (place / "verdicts.csv.gz").write_bytes(gzip.compress(content))
        (place / "verdicts.csv").unlink()
        assert len(runs.load(place).verdicts) == 24

    def test_a_row_that_is_edited_and_could_be_is_seen(self, tmp_path: Path) -> None:
        place = self.made(tmp_path / "a")
        path = place / "verdicts.csv"
        path.write_text(path.read_text().replace(",0.04,True,True,", ",0.05,True,True,", 1))
        with pytest.raises(UserError, match=r"verdicts\.csv was edited after the run ended: .*; give back the file"):
            runs.load(place)
        before = path.read_bytes()
        with pytest.raises(UserError, match="was edited after the run ended"):
            Writer.resume(place, RECORD)
        assert path.read_bytes() == before and runs.read_record(place).finished

    def test_images_that_were_replaced_are_seen(self, tmp_path: Path) -> None:
        place = self.made(tmp_path / "a")
        record = runs.read_record(place)
        (place / "run.json").write_text(runs.dump(replace(record, losses_sha256="ab").to_dict()))
        for name in ("adversarial.npz", "losses.csv"):
            (place / name).write_bytes(b"others")
            with pytest.raises(UserError, match=f"{name} was edited after the run ended"):
                runs.load(place)
            with pytest.raises(UserError, match=f"{name} was edited after the run ended"):
                Writer.resume(place, RECORD)
            (place / name).unlink()
        assert len(runs.load(place).verdicts) == 24

    def test_a_line_that_stands_there_twice_is_read_once(self, tmp_path: Path) -> None:
        place = self.made(tmp_path / "a")
        path = place / "verdicts.csv"
        path.write_text(path.read_text() + path.read_text().splitlines()[3] + "\n")
        assert len(runs.load(place).verdicts) == 24
        with Writer.resume(place, RECORD) as writer:
            writer.finish()
        assert len(path.read_text().splitlines()) == 25

    def test_a_file_longer_than_its_run_is_not_read(self, tmp_path: Path) -> None:
        import gzip

        place = self.made(tmp_path / "a")
        (place / "verdicts.csv").unlink()
        (place / "verdicts.csv.gz").write_bytes(gzip.compress(bytes(1 << 26)))
        with pytest.raises(UserError, match=r"is longer than the rows of its run\.json can be"):
            runs.load(place)
