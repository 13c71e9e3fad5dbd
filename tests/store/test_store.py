"""Runs on disk: what is written is what is read, whatever goes wrong in between."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.core import files
from bench.core.types import UserError, Verdict
from bench.store import images as adversarial
from bench.store import runs
from bench.store.provenance import provenance
from bench.store.record import Record, Session
from bench.store.writer import Writer
from tests.support.stored_runs import entry

INDICES = list(range(12))
ATTACKS = ["pgd(steps=3,loss='ce')", "ddn"]
RECORD = Record(
    model="m",
    weights_sha256="ab",
    data="digits",
    split="test",
    indices=tuple(INDICES),
    data_sha256="cd",
    attacks=(entry(ATTACKS[0], steps=3), entry(ATTACKS[1], minimal=True)),
    norm="linf",
    eps=8 / 255,
    eps_written="8/255",
    seed=0,
    batch_size=4,
    command="bench run",
)


def rows(attack: str, indices: list[int]) -> list[Verdict]:
    eps = None if attack == "ddn" else 8 / 255
    sizes = {index: float(np.float32(index + 1) / 7) if eps is None else eps / (index + 1) for index in indices}
    return [Verdict(index, 3, 3, attack, "linf", eps, 5, sizes[index], True, True, 10, 5) for index in indices]


def fill(writer: Writer, chunk: int = 4) -> runs.Run:
    for attack in ATTACKS:
        eps = None if attack == "ddn" else 8 / 255
        for start in range(0, len(INDICES), chunk):
            part = INDICES[start : start + chunk]
            todo = [index for index in part if runs.trial(attack, "linf", eps, index) not in writer.done()]
            writer.append(rows(attack, todo), {attack: 0.5})
    return writer.finish()


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    run = fill(Writer.create(tmp_path / "run", RECORD))
    loaded = runs.load(tmp_path / "run")
    made = [row for attack in ATTACKS for row in rows(attack, INDICES)]
    pd.testing.assert_frame_equal(loaded.verdicts, runs.frame(made), check_exact=True)
    pd.testing.assert_frame_equal(loaded.verdicts, run.verdicts, check_exact=True)
    assert loaded.record == run.record
    costs = {"seconds": 0.0, "attack_seconds": {}, "forwards": 0, "backwards": 0, "finished": False}
    assert loaded.record.verdicts_sha256 == files.sha256_of(tmp_path / "run" / "verdicts.csv")
    assert replace(loaded.record, **costs, verdicts_sha256="", record_sha256="") == RECORD
    assert (loaded.record.forwards, loaded.record.backwards) == (240, 120)
    assert loaded.record.attack_seconds == {ATTACKS[0]: 1.5, ATTACKS[1]: 1.5}
    assert loaded.record.finished and loaded.record.seconds > 0


def test_the_file_has_the_contract_s_form(tmp_path: Path) -> None:
    fill(Writer.create(tmp_path, RECORD))
    head, first, *_, last = (tmp_path / "verdicts.csv").read_text().splitlines()
    assert head == "index,label,clean_pred,attack,norm,eps,adv_pred,size,lawful,broken,forwards,backwards"
    assert first == "0,3,3,\"pgd(steps=3,loss='ce')\",linf,0.03137254901960784,5,0.03137254901960784,True,True,10,5"
    assert last == "11,3,3,ddn,linf,,5,1.7142857313156128,True,True,10,5"
    assert json.loads((tmp_path / "run.json").read_text())["schema_version"] == 1


def test_gzipped_verdicts_are_read(tmp_path: Path) -> None:
    run = fill(Writer.create(tmp_path, RECORD))
    plain = tmp_path / "verdicts.csv"
    (tmp_path / "verdicts.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    pd.testing.assert_frame_equal(runs.load(tmp_path).verdicts, run.verdicts)
    with pytest.raises(UserError, match="gunzip"):
        Writer.resume(tmp_path, RECORD)
    (tmp_path / "verdicts.csv.gz").write_bytes(b"\x1f\x8b not gzip")
    with pytest.raises(UserError, match="cannot be read"):
        runs.load(tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_a_run_cut_anywhere_and_resumed_ends_in_the_same_file(tmp_path: Path, seed: int) -> None:
    fill(Writer.create(tmp_path / "whole", RECORD))
    whole = (tmp_path / "whole" / "verdicts.csv").read_bytes()
    fill(Writer.create(tmp_path / "cut", RECORD))
    cut = tmp_path / "cut" / "verdicts.csv"
    cut.write_bytes(whole[: random.Random(seed).randrange(len(whole))])
    fill(Writer.resume(tmp_path / "cut", replace(RECORD, command="bench run --resume")), chunk=seed + 1)
    assert cut.read_bytes() == whole
    record = runs.read_record(tmp_path / "cut")
    assert record.command == "bench run"
    assert record.resumed == (Session(command="bench run --resume"),)


def test_a_torn_last_line_is_no_row(tmp_path: Path) -> None:
    writer = Writer.create(tmp_path, RECORD)
    writer.append(rows("ddn", [0, 1]))
    writer.close()
    with (tmp_path / "verdicts.csv").open("a") as file:
        file.write("2,3,3,ddn,linf,,5,0.28")
    assert list(runs.load(tmp_path).verdicts["index"]) == [0, 1]
    with Writer.resume(tmp_path, RECORD) as again:
        assert again.done() == {("ddn", "linf", "", 0), ("ddn", "linf", "", 1)}


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        runs.load(tmp_path / "nowhere")
    fill(Writer.create(tmp_path, RECORD))
    path = tmp_path / "verdicts.csv"
    good = path.read_text()
    for bad, fault in (
        (good.replace("True", "maybe"), "damaged"),
        (good + good.splitlines()[1].replace(",10,5", ",11,5") + "\n", "twice"),
        (good.replace("adv_pred", "prediction", 1), "other columns"),
        (good + "1,2\n", "damaged"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=fault) as caught:
            runs.load(tmp_path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match="no verdicts"):
        runs.load(tmp_path)
    for text in ("{", "[]", '{"schema_version": 99}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match=r"run\.json"):
            runs.load(tmp_path)


def test_another_run_is_never_overwritten(tmp_path: Path) -> None:
    fill(Writer.create(tmp_path, RECORD))
    before = (tmp_path / "verdicts.csv").read_bytes()
    with pytest.raises(UserError, match="holds another run: choose another --out or continue it with --resume"):
        Writer.create(tmp_path, RECORD)
    assert (tmp_path / "verdicts.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"weights_sha256": "zz"}, "weights_sha256"),
        ({"indices": (*range(11), 99)}, "indices"),
        ({"attacks": (entry(ATTACKS[0], steps=4),)}, "attacks"),
        ({"eps": 0.031, "eps_written": "0.031"}, "eps 0.03137254901960784, not 0.031"),
        ({"batch_size": 8}, "batch_size"),
    ],
)
def test_another_recipe_is_not_resumed(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    Writer.create(tmp_path, RECORD).close()
    with pytest.raises(UserError, match=said):
        Writer.resume(tmp_path, replace(RECORD, **change))
    Writer.resume(tmp_path, replace(RECORD, command="other", start="later")).close()


def test_resuming_nothing_is_starting(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the user's own")
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        assert len(fill(Writer.resume(folder, RECORD)).verdicts) == 24


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer.create(tmp_path, RECORD)
    writer.append(rows("ddn", [0, 1]))
    real = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError, match="the disk is full: free some space, then continue with --resume") as caught:
            writer.append(rows("ddn", [2, 3]))
    assert "\n" not in str(caught.value)
    assert list(runs.load(tmp_path).verdicts["index"]) == [0, 1]
    writer.close()
    assert len(fill(Writer.resume(tmp_path, RECORD)).verdicts) == 24


def test_the_first_error_is_the_one_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        Writer.create(tmp_path, RECORD)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    with pytest.raises(KeyboardInterrupt), Writer.create(tmp_path, RECORD) as writer:
        writer.append(rows("ddn", [0]))
        monkeypatch.setattr(os, "fsync", full)
        raise KeyboardInterrupt


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        Writer.create(tmp_path / "file" / "run", RECORD)


def test_an_atomic_write_leaves_nothing_else_behind(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "a" / "b.txt", "ε\n")
    files.write_atomically(tmp_path / "a" / "b.txt", "new\n")
    assert {path.name: path.read_text() for path in (tmp_path / "a").iterdir()} == {"b.txt": "new\n"}


def images(indices: list[int], shift: float = 0.0) -> adversarial.Images:
    clean = np.stack([np.full((1, 2, 2), index, np.float32) for index in indices])
    return clean + np.float32(shift), clean


def test_adversarial_examples_survive_a_resume(tmp_path: Path) -> None:
    with Writer.create(tmp_path, RECORD) as writer:
        writer.append(rows("ddn", [4, 5]), None, images([4, 5], 0.5))
    adversarial.add(tmp_path, rows("ddn", [6]), images([6], 0.5))
    with Writer.resume(tmp_path, RECORD) as writer:
        writer.append(rows(ATTACKS[0], [1, 0]), None, images([1, 0]))
        writer.append(rows("ddn", [6]), None, images([6], 0.5))
        writer.finish()
    kept = adversarial.load(tmp_path)
    table = runs.load(tmp_path).verdicts
    assert list(kept.indices) == list(table["index"]) == [0, 1, 4, 5, 6]
    assert list(kept.attacks) == list(table["attack"])
    assert list(kept.images[:, 0, 0, 0]) == [0.0, 1.0, 4.5, 5.5, 6.5]
    assert list(kept.clean_indices) == [0, 1, 4, 5, 6] == list(kept.clean[:, 0, 0, 0])
    assert np.array_equal(kept.eps, table["eps"], equal_nan=True) and kept.images.dtype == np.float32
    assert not (tmp_path / "adversarial.parts").exists()


def test_adversarial_examples_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--save-adversarial"):
        adversarial.load(tmp_path)
    (tmp_path / "adversarial.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        adversarial.load(tmp_path)


def test_provenance_names_versions_and_commit() -> None:
    found = provenance()
    assert found["versions"]["pandas"] == pd.__version__
    assert set(found) == {"versions", "python", "platform", "commit", "dirty"}
    assert (found["dirty"] is None) == (found["commit"] == "")
    json.dumps(found)
