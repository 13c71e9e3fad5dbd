"""Whatever a file holds: what is sound in it is read, the rest refused in one line; nothing hangs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as packed

import bench
from bench.core.types import Checkpoint, ThreatModel, Verdict
from bench.data import folder
from bench.evaluation.verification import verify
from bench.models import stanzas
from bench.models.weights import read_tensors
from bench.report import audit, run_table
from bench.store import images, runs
from bench.store.writer import Writer
from defenses.training import recipe as recipes
from tests.fuzz.cases import altered, damaged, fuzzed, in_time, taken

STANZA = {
    "arch": "mlp",
    "args": {"hidden": [32], "image": 8},
    "weights": "tiny.safetensors",
    "data": "digits",
    "trained_for": {"norm": "linf", "eps": "0.1"},
    "trained_with": {"pgd": {"steps": 5}},
    "rename": {"a": "b"},
    "published": {"clean": 99.0},
}
RECIPE = {
    "model": {"arch": "mlp", "args": {"hidden": [8], "image": 8}},
    "data": {"name": "digits", "held_out": 10, "limit": 64, "crop_padding": 1, "crop_fill": 0.5},
    "defense": {"name": "madry", "eps": "0.1", "steps": 3, "step_size": 0.05},
    "train": {"epochs": 3, "lr": 0.1, "momentum": 0.9, "milestones": [1, 2], "seed": 3, "warmup": 1.0, "factor": 0.1},
    "evaluation": {"every": 1, "steps": 3},
    "paper": {"source": "a test", "expect": {"clean": 90.0}},
}


FIELDS = ("indices", "attacks", "norms", "eps", "images", "clean_indices", "clean")
ARRAYS = [np.zeros(0), np.zeros((3, 2)), np.array(["x" * 9]), np.array(5), np.full((16, 1, 8, 8), np.nan)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run of two attacks on eight images, with the images."""
    home = tmp_path_factory.mktemp("fuzzed") / "run"
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    x = torch.rand(8, 1, 8, 8)
    made = bench.evaluate(model, x, model(x).argmax(1), "fgsm,ddn", eps="8/255")
    table = made.verdicts.astype({"eps": object}).where(made.verdicts.notna(), None)
    rows = [Verdict(**row) for row in table.to_dict("records")]
    pixels = x.numpy()[[row.index for row in rows]]
    with Writer.create(home, replace(made.record, finished=False, save_adversarial=True)) as writer:
        writer.append(rows, {}, (pixels, pixels))
        writer.finish()
    return home


def tried(stored: Path, changes: dict[str, bytes], use: Callable[[Path], Any]) -> Any:
    """What `use` makes of a run in which some files hold other bytes; they are given back."""
    before = {name: (stored / name).read_bytes() for name in changes}
    try:
        for name, content in changes.items():
            (stored / name).write_bytes(content)
        return taken(use, stored)
    finally:
        for name, content in before.items():
            (stored / name).write_bytes(content)


def _looked_at(stored: Path) -> str:
    """Everything that a run says by itself."""
    made = runs.load(stored)
    run_table.console(made), run_table.latex(made), audit.report(made)
    return "read"


@fuzzed
@given(data=st.data())
def test_a_record_that_was_altered(run: Path, data: st.DataObject) -> None:
    record = json.loads((run / "run.json").read_text())
    other = data.draw(altered(record))
    try:
        content = json.dumps(other).encode(errors="surrogatepass")
    except ValueError:  # more digits than Python writes
        content = b'{"schema_version": ' + b"9" * 5000 + b"}"
    tried(run, {"run.json": content}, _looked_at)
    tried(run, {"run.json": content}, lambda stored: verify(stored, None))


@fuzzed
@given(data=st.data())
def test_rows_that_were_damaged(run: Path, data: st.DataObject) -> None:
    content = (run / "verdicts.csv").read_bytes()
    record = json.loads((run / "run.json").read_text())
    unsigned = json.dumps({**record, "verdicts_sha256": "", "adversarial_sha256": ""}).encode()
    other = data.draw(damaged(content))
    said = tried(run, {"verdicts.csv": other}, _looked_at)
    assert said is None or runs.whole_lines(other) == content
    tried(run, {"verdicts.csv": other, "run.json": unsigned}, _looked_at)


@fuzzed
@given(data=st.data())
def test_images_that_were_damaged(run: Path, data: st.DataObject) -> None:
    content = (run / "adversarial.npz").read_bytes()
    kept = images.load(run)
    other = data.draw(damaged(content))
    again = tried(run, {"adversarial.npz": other}, images.load)
    assert again is None or again.images.shape == kept.images.shape
    held = {key: getattr(kept, key) for key in FIELDS}
    other = {**held, data.draw(st.sampled_from(FIELDS)): data.draw(st.sampled_from(ARRAYS))}
    np.savez(run.parent / "other.npz", **other)
    changes = {"adversarial.npz": (run.parent / "other.npz").read_bytes()}
    tried(run, changes, images.load)
    tried(run, changes, lambda stored: verify(stored, None))


def toml(table: Any) -> bytes:
    """A table as TOML, or some text that is none where TOML has no word for what it holds."""
    try:
        return tomlkit.dumps(table).encode()
    except Exception:
        return b"x = [" * 50


@fuzzed
@given(data=st.data())
def test_a_stanza_that_was_altered_costs_no_other(tmp_path_factory: Any, data: st.DataObject) -> None:
    home = tmp_path_factory.mktemp("stanzas")
    whole = altered(STANZA).map(lambda table: toml({"other": table}))
    other = data.draw(st.one_of(whole, damaged(toml({"other": STANZA}))))
    (home / "checkpoints.toml").write_bytes(toml({"sound": STANZA}) + b"\n" + other)
    with pytest.MonkeyPatch.context() as patch, in_time():
        patch.chdir(home)
        known = stanzas.registry()
    assert isinstance(known["mat_digits"], Checkpoint)
    assert "sound" in known.faults or known["sound"].trained_for == ThreatModel("linf", 0.1, "0.1")
    for model in known.models.values():
        assert model.trained_for is None or model.trained_for.eps is None or 0 <= model.trained_for.eps < math.inf
        stanzas.check_source(model.arch, model.home)
    assert all("\n" not in fault for fault in known.faults.values())


@fuzzed
@given(data=st.data())
def test_a_recipe_that_was_altered(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("recipes") / "r.toml"
    path.write_bytes(data.draw(st.one_of(altered(RECIPE).map(toml), damaged(toml(RECIPE)))))
    made = taken(recipes.load, str(path))
    if made is not None:
        train = made.train
        assert train.epochs >= 1 and train.lr > 0 and 0 <= train.momentum <= 1 and train.batch_size >= 1
        assert all(math.isfinite(value) for value in vars(train).values() if isinstance(value, float))


@fuzzed
@given(data=st.data())
def test_weights_that_were_damaged(tmp_path_factory: Any, data: st.DataObject) -> None:
    home = tmp_path_factory.mktemp("weights")
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}
    torch.save({"state_dict": state}, home / "w.pt")
    (home / "w.safetensors").write_bytes(packed(state))
    for path in (home / "w.pt", home / "w.safetensors"):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        tensors = taken(read_tensors, path)
        assert {type(tensor) for tensor in (tensors or {}).values()} <= {torch.Tensor}


@fuzzed
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "bmp", "gif", "pgm", "webp", "tif"]))
def test_a_picture_that_was_damaged(tmp_path_factory: Any, data: st.DataObject, suffix: str) -> None:
    home = tmp_path_factory.mktemp("pictures")
    (home / "a").mkdir()
    path = home / "a" / f"0.{suffix}"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    read = taken(folder.Folder(home).load, "test")
    assert read is None or (read.images.dim() == 4 and len(read) == 1 and read.images.numel() < 3 * 2**24)
