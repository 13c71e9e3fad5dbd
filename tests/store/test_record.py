"""Records: what stored ones say is written back to the byte, and a bad one is refused in a line that names the key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.types import UserError
from bench.store import detections, runs
from bench.store.record import AttackEntry, Record, StageEntry, ThreatRecord
from tests.support.checkout import ROOT
from tests.support.stored_runs import detection_record, entry, record

STORED = sorted((ROOT / "results").rglob("run.json"))
DETECTED = sorted((ROOT / "results").rglob("detect.json"))


def test_every_stored_record_is_written_back_to_the_byte() -> None:
    assert len(STORED) > 100 and len(DETECTED) >= 10
    for path in STORED:
        read = runs.read_record(path.parent)
        assert runs.dump(read.to_dict()) == path.read_text() and not read.unknown, path
    for path in DETECTED:
        assert runs.dump(detections.load(path.parent).record.to_dict()) == path.read_text(), path


def test_a_new_record_has_the_keys_of_the_last_ones_in_their_order() -> None:
    for path in STORED:
        read = runs.read_record(path.parent)
        if not read.resumed and len(read.order) == 39:
            assert list(replace(read, order=()).to_dict()) == list(read.order)
    for path in DETECTED:
        read = detections.load(path.parent).record
        assert list(replace(read, order=()).to_dict()) == list(json.loads(path.read_text()))
    assert list(entry("pgd").to_dict()) == ["spec", "name", "norm", "minimal", "adaptive", "fields"]


def test_what_this_version_does_not_know_is_kept() -> None:
    values = record(attacks=(entry("pgd"),)).to_dict()
    values = {"schema_version": values.pop("schema_version"), "later": [1, {"a": None}], **values}
    values["attacks"][0]["budget"] = {"unit": "pixels"}
    read = Record.from_dict(values)
    assert read.unknown == {"later": [1, {"a": None}]} and read.attacks[0].unknown == {"budget": {"unit": "pixels"}}
    again = replace(read, seed=5).to_dict()
    assert again == values | {"seed": 5} and list(again) == list(values)


def test_keys_that_older_versions_lacked_have_defaults_and_are_not_added() -> None:
    values = record().to_dict()
    for key in ("args", "trained_for", "search_dtype", "eps_order"):
        del values[key]
    read = Record.from_dict(values)
    assert (read.args, read.trained_for, read.search_dtype, read.eps_order) == ({}, None, "float32", None)
    assert read == record() and read.to_dict() == values
    assert list(replace(read, eps_order="exact").to_dict()) == [*values, "eps_order"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": 3}, "model is 3, not a text"),
        ({"seed": True}, "seed is True, not a whole number"),
        ({"batch_size": 4.0}, "batch_size is 4.0, not a whole number"),
        ({"finished": "yes"}, "finished is 'yes', not true or false"),
        ({"norm": "linfty"}, "norm is 'linfty', not one of linf, l2, l1"),
        ({"norm": []}, r"norm is \[\], not one of"),
        ({"eps": "8/255"}, "eps is '8/255', not a number"),
        ({"indices": {"0": 1}}, "indices is .*, not a list"),
        ({"indices": [0, 1, "2"]}, r"indices\[2\] is '2', not a whole number"),
        ({"args": []}, r"args is \[\], not an object"),
        ({"trained_with": {"mat": 1}}, "trained_with.mat is 1, not an object"),
        ({"attack_seconds": {"pgd": None}}, "attack_seconds.pgd is None, not a number"),
        ({"eps_grid": [[0.1, "0.1"], [0.2]]}, r"eps_grid\[1\] is \[0.2\], not 2 values"),
        ({"trained_for": {"norm": "linf"}}, "trained_for.* has no 'eps'"),
        ({"attacks": [{"spec": "pgd"}]}, r"attacks\[0\].* has no 'name'"),
        ({"attacks": ["pgd"]}, r"attacks\[0\] is 'pgd', not an object"),
        ({"model": [["x" * 500]]}, r"model is .{40}, not a text"),
    ],
)
def test_a_value_of_another_kind_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(record().to_dict() | change))
    with pytest.raises(UserError, match=said) as caught:
        runs.read_record(tmp_path)
    assert " is damaged: " in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / "run.json") in str(caught.value)


@pytest.mark.parametrize("key", ["model", "data", "indices", "attacks", "norm", "batch_size"])
def test_a_run_without_what_makes_it_a_run_is_refused(tmp_path: Path, key: str) -> None:
    values = record().to_dict()
    del values[key]
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"run\.json is damaged: it has no '{key}'"):
        runs.read_record(tmp_path)


def test_stages_stand_before_their_ensemble() -> None:
    stages = tuple(StageEntry(spec=name, name=name, fields={}) for name in ("a", "b"))
    whole = AttackEntry(spec="both", name="both", norm="l2", minimal=False, fields={"n": (1, 2)}, stages=stages)
    made = record(attacks=(entry("pgd"), whole))
    assert made.labels == ("pgd", "a", "b", "both") and made.stage_labels == {"a", "b"}
    assert made.to_dict()["attacks"][1]["fields"] == {"n": [1, 2]}


def test_a_detection_s_record_is_a_run_s_whose_budget_is_its_threat() -> None:
    made = detection_record("kd", ThreatRecord(norm="l2", eps=0.5, eps_written="1/2"), seed=3)
    assert (made.norm, made.eps, made.threat.eps, made.seed) == ("l2", None, 0.5, 3)
    values = made.to_dict()
    assert not {"norm", "eps", "attack_seconds", "finished"} & set(values) and list(values)[-1] == "seconds"
    about = {**values["detector"], "bandwidth": 0.1}
    again = detections.DetectionRecord.from_dict({**values, "detector": about})
    assert again.detector.unknown == {"bandwidth": 0.1} and again.to_dict()["detector"] == about
