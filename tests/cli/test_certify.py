"""bench certify from end to end: files, exit codes, going on, and what it says of runs that contradict it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bench import certify, load_run
from bench.bounds.margins import METHODS
from bench.core.types import UserError
from bench.data import loading
from bench.evaluation.certification import stored_run
from bench.models import checkpoints
from bench.store import certificates

COLUMNS = ["index", "label", "norm", "eps", "certified", "lower_bound", "method", "seconds"]


@pytest.fixture
def run(bench):
    """A folder with a run of `tiny` that keeps its images, and the command line."""
    made = bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "24", "--out", "run", "--save-adversarial")
    assert made.code == 0, made.err
    return Path("run")


def _rows(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "certified.csv", dtype={"certified": "str"}, keep_default_na=False, na_values=[""])


def _unsigned(run: Path, **changed: object) -> None:
    """Leave a run as older versions wrote it, without signatures, with other cells in its first lawful row."""
    record = json.loads((run / "run.json").read_text())
    record = {
        key: value
        for key, value in record.items()
        if not key.endswith("_sha256") or key in ("weights_sha256", "data_sha256")
    }
    record.pop("behaviour")
    (run / "run.json").write_text(json.dumps(record))
    (run / "adversarial.npz").unlink(missing_ok=True)
    table = pd.read_csv(run / "verdicts.csv")
    for name, value in changed.items():
        table.loc[table["index"] == changed["index"], name] = value
    table.to_csv(run / "verdicts.csv", index=False)


def test_every_right_image_has_a_bound_and_none_is_both_proven_and_broken(run, bench):
    said = bench("certify", "run")
    rows, verdicts = _rows(run), pd.read_csv(run / "verdicts.csv").set_index("index")
    assert said.code == 0, said.err
    assert list(rows.columns) == COLUMNS
    assert rows["index"].tolist() == list(range(24))
    right = verdicts["label"] == verdicts["clean_pred"]
    proven = rows.set_index("index")["certified"] == "true"
    assert (rows.set_index("index")["certified"] == "false").equals(~right.rename("certified"))
    assert not (proven & verdicts["broken"]).any()
    assert 0 < proven.sum() <= (right & ~verdicts["broken"]).sum()
    assert (rows["lower_bound"][proven.to_numpy()] > 0).all()
    assert (rows["lower_bound"][rows["certified"] == "unknown"] <= 0).all()
    table = pd.read_csv(run / "certified_table.csv").iloc[0]
    assert table["certified_accuracy"] == proven.mean()
    assert table["robust_accuracy"] == (right & ~verdicts["broken"]).mean()
    assert table["clean_accuracy"] == right.mean()
    sentence = f"certified {100 * proven.mean():.1f} %, attacked {100 * table['robust_accuracy']:.1f} %"
    assert sentence in said.out


def test_the_run_stays_what_it_was_and_its_tables_say_what_was_proven(run, bench):
    before = {name: (run / name).read_bytes() for name in ("run.json", "verdicts.csv", "table.csv")}
    share = f"{100 * (bench('certify', 'run').code == 0) * (_rows(run)['certified'] == 'true').mean():.2f}"
    assert {name: (run / name).read_bytes() for name in before} == before
    assert bench("verify", "run").code == 0
    assert "certified" in (run / "table.tex").read_text()
    assert f" {share} |" in (run / "table.md").read_text().splitlines()[-1]
    assert "the truth lies between" in str(load_run("run"))
    assert load_run("run").certified()["certified"].tolist() == _rows(run)["certified"].tolist()


def test_l2_and_other_eps_and_methods_stand_side_by_side(run, bench):
    assert bench("certify", "run", "--norm", "l2", "--eps", "0,0.05,0.2", "--method", "ibp").code == 0
    assert bench("certify", "run").code == 0
    rows = _rows(run)
    assert dict(rows.groupby(["norm", "eps"]).size()) == {
        ("l2", 0.0): 24,
        ("l2", 0.05): 24,
        ("l2", 0.2): 24,
        ("linf", 0.1): 24,
    }
    loose = rows[rows["norm"] == "l2"].set_index(["eps", "index"])["certified"]
    assert bench("certify", "run", "--norm", "l2", "--eps", "0,0.05,0.2").code == 0
    tight = _rows(run).query("norm == 'l2'").set_index(["eps", "index"])
    assert (tight["certified"][loose == "true"] == "true").all()
    assert (tight["certified"] == "true").sum() > (loose == "true").sum()
    shares = (tight["certified"] == "true").groupby("eps").mean()
    assert shares.is_monotonic_decreasing
    bounds = tight["lower_bound"].unstack("eps").dropna()
    assert (bounds.diff(axis=1).iloc[:, 1:] <= 0).all(axis=None)


def test_one_image_alone_has_the_same_bound(run, bench):
    assert bench("certify", "run").code == 0
    assert bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "3", "--out", "few").code == 0
    assert bench("certify", "few").code == 0
    kept = COLUMNS[:-1]
    assert _rows(Path("few"))[kept].equals(_rows(run)[kept].head(3))


def test_an_image_both_certified_and_broken_is_exit_1(run, bench):
    assert bench("certify", "run").code == 0
    proven = int(_rows(run).query("certified == 'true'")["index"].iloc[0])
    label = int(_rows(run).set_index("index")["label"].loc[proven])
    _unsigned(run, index=proven, adv_pred=(label + 1) % 10, size=0.05, broken=True)
    said = bench("certify", "run")
    assert said.code == 1
    assert f"image {proven} (pgd)" in said.err
    assert "somebody is wrong" in said.err


def test_a_stopped_certification_goes_on(run, bench, monkeypatch):
    assert bench("certify", "run").code == 0
    whole = _rows(run)[COLUMNS[:-1]]
    for name in ("certified.csv", "certified.json"):
        (run / name).unlink()
    monkeypatch.setattr(stored_run, "_SAVE_EVERY", 0.0)
    seen = []

    def stop(row, total):
        seen.append(row.index)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored_run.certify(run, told=stop)
    part = certificates.load(run, load_run(run).record)
    assert part is not None
    assert not part.record.finished
    assert 0 < len(part.table) < 24
    again = []
    stored_run.certify(run, told=lambda row, total: again.append(row.index))
    assert set(again).isdisjoint(part.table["index"])
    assert _rows(run)[COLUMNS[:-1]].equals(whole)


def test_what_is_there_is_not_made_again(run, bench):
    assert bench("certify", "run").code == 0
    before = (run / "certified.csv").read_bytes(), (run / "certified.json").read_bytes()
    made = []
    stored_run.certify(run, told=lambda row, total: made.append(row))
    assert not made
    assert ((run / "certified.csv").read_bytes(), (run / "certified.json").read_bytes()) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere",), "holds no run"),
        (("run", "--norm", "l2"), "give --eps"),
        (("run", "--eps", "many"), "eps"),
        (("run", "--model", "other"), "other"),
    ],
)
def test_what_cannot_be_tried_is_exit_2(run, bench, words, why):
    said = bench("certify", *words)
    assert said.code == 2
    assert why in said.err
    assert len(said.err.splitlines()) == 1
    assert not (run / "certified.csv").exists()


def test_there_are_no_bounds_in_l1(bench):
    assert (
        bench("run", "--model", "tiny", "--attacks", "pgd", "--norm", "l1", "--eps", "1", "-n", "4", "--out", "l1").code
        == 0
    )
    said = bench("certify", "l1")
    assert said.code == 2
    assert "no bounds for l1" in said.err


_OWN = """
import torch
from torch import nn

def gelu():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 10))

def nan():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    model[3].weight.data[0] = float("nan")
    return model

def noisy():
    return Noisy()

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(64, 10)

    def forward(self, x):
        return self.inner(x.flatten(1) + torch.randn_like(x.flatten(1)))
"""


def _own(bench, name: str) -> None:
    Path("own.py").write_text(_OWN)
    words = (
        "--attacks",
        "pgd",
        "--data",
        "digits",
        "--eps",
        "0.1",
        "--norm",
        "linf",
        "-n",
        "8",
        "--force",
        "--out",
        name,
    )
    assert bench("run", "--model", f"own.py:{name}", *words).code == 0


def test_a_models_code_is_run_only_where_it_is_trusted(bench):
    _own(bench, "gelu")
    assert "--trust" in bench("certify", "gelu").err


def test_an_unsupported_layer_is_exit_2_and_named(bench):
    _own(bench, "gelu")
    said = bench("certify", "gelu", "--trust")
    assert said.code == 2
    assert "GELU" in said.err
    assert len(said.err.splitlines()) == 1


def test_weights_that_are_nan_are_failed_not_unknown(bench):
    _own(bench, "nan")
    said = bench("certify", "nan", "--trust")
    assert said.code == 0, said.err
    rows = _rows(Path("nan"))
    assert set(rows["certified"]) == {"failed"}
    assert rows["lower_bound"].isna().all()


def test_a_random_model_is_refused(bench):
    _own(bench, "noisy")
    said = bench("certify", "noisy", "--trust")
    assert said.code == 2
    assert "random" in said.err


@pytest.mark.parametrize("cell", ["true,9.5", "maybe,1.0"])
def test_edited_certificates_are_refused(run, bench, cell):
    assert bench("certify", "run", "--method", "ibp").code == 0
    path = run / "certified.csv"
    text = path.read_text().splitlines()
    cells = text[1].split(",")
    path.write_text("\n".join([text[0], ",".join([*cells[:4], cell, *cells[6:]]), *text[2:]]) + "\n")
    with pytest.raises(UserError, match="edited"):
        certificates.load(run, load_run(run).record)
    assert bench("certify", "run").code == 2


def test_certificates_of_other_weights_are_refused(run, bench):
    assert bench("certify", "run", "--method", "ibp").code == 0
    record = json.loads((run / "certified.json").read_text())
    (run / "certified.json").write_text(json.dumps(record | {"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="other weights"):
        certificates.load(run, load_run(run).record)


def test_methods_of_files_are_those_of_bounds():
    assert (certificates.METHODS[0], *METHODS) == certificates.METHODS[:1] + METHODS
    assert certificates.METHODS[1:] == METHODS


def test_a_sweep_is_certified_at_each_eps(bench):
    sweep = (
        "sweep-eps",
        "--model",
        "tiny",
        "--attack",
        "pgd(steps=5)",
        "--eps",
        "0,0.02,0.2",
        "-n",
        "12",
        "--out",
        "sweep",
    )
    assert bench(*sweep).code == 0
    curve = Path("sweep/curve.csv").read_bytes()
    assert bench("certify", "sweep").code == 0
    assert Path("sweep/curve.csv").read_bytes() == curve
    table = pd.read_csv("sweep/certified_table.csv")
    assert table["eps"].tolist() == [0, 0.02, 0.2]
    assert table["certified_accuracy"].is_monotonic_decreasing
    assert (table["certified_accuracy"] <= table["robust_accuracy"]).all()
    assert table["certified_accuracy"][0] == table["clean_accuracy"][0]
    assert "certified %" in Path("sweep/curve.md").read_text()


def test_from_python_it_is_the_same(run, bench):
    assert bench("certify", "run").code == 0
    data = loading.load("digits").select(slice(24))
    model = checkpoints.load("tiny").model.train()
    made = certify(model, data.images, data.labels, eps="0.1")
    kept = COLUMNS[:-1]
    assert made[kept].equals(load_run(run).certified()[kept])
    assert model.training
    with pytest.raises(UserError, match="no bounds for l1"):
        certify(model, data.images, data.labels, "l1", 1.0)
    with pytest.raises(UserError, match="unknown method 'best'"):
        certify(model, data.images, data.labels, method="best")
