"""The registry of trained models: what is refused, what is loaded, and that nothing in a file is run."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.core.registry import architectures
from bench.core.types import ThreatModel, UserError
from bench.models import checkpoints, stanzas
from tests.support.checkout import ROOT

STANZA = '[tiny]\narch = "mlp"\nargs = { hidden = [5], image = 4 }\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_MODELS", raising=False)
    return tmp_path


def tiny() -> Any:
    torch.manual_seed(1)
    return architectures["mlp"](hidden=[5], image=4)


def stanza(weights: Path | str, more: str = "", sha256: str | None = None) -> None:
    path = Path(weights)
    if sha256 is None and path.is_file():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    line = f'sha256 = "{sha256}"\n' if sha256 else ""
    Path("checkpoints.toml").write_text(f'{STANZA}weights = "{weights}"\n{line}{more}')


def refused(spec: str = "tiny") -> str:
    with pytest.raises(UserError) as caught:
        checkpoints.load(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_loads_what_was_saved(suffix: str) -> None:
    state = tiny().state_dict()
    weights = Path(f"tiny.{suffix}")
    save_file(state, weights) if suffix == "safetensors" else torch.save(state, weights)
    stanza(weights, 'trained_for = { norm = "l2", eps = "1/2" }\n')
    loaded = checkpoints.load("tiny")
    x = torch.rand(2, 1, 4, 4)
    assert not loaded.model.training
    assert torch.equal(loaded.model(x), tiny()(x))
    assert loaded.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest() == loaded.checkpoint.sha256
    assert loaded.checkpoint.trained_for == ThreatModel("l2", 0.5, "1/2")


@pytest.mark.parametrize("wrapper", ["state_dict", "net", "model"])
def test_wrappers_prefixes_and_half_precision(wrapper: str) -> None:
    state = OrderedDict((f"module.{name}", value.half()) for name, value in tiny().state_dict().items())
    torch.save({wrapper: state, "epoch": 3}, "tiny.pth")
    stanza("tiny.pth")
    model = checkpoints.load("tiny").model
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(model(torch.ones(1, 1, 4, 4)), tiny()(torch.ones(1, 1, 4, 4)), rtol=1e-2, atol=1e-2)


def test_longest_prefix_renames_and_a_dash_drops() -> None:
    state = {name.replace("head.", "fc.").removeprefix("body."): value for name, value in tiny().state_dict().items()}
    torch.save({**state, "unused.weight": torch.zeros(1)}, "tiny.pt")
    stanza("tiny.pt", '[tiny.rename]\n"fc." = "head."\n"unused." = "-"\n"" = "body."\n')
    assert torch.equal(checkpoints.load("tiny").model.state_dict()["head.bias"], state["fc.bias"])
    stanza("tiny.pt", '[tiny.rename]\n"fc." = "head."\n"fc1.0.weight" = "head.weight"\n')
    assert "two tensors the name 'head.weight'" in refused()


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_never_run(legacy: bool) -> None:
    torch.save({"state_dict": tiny().state_dict(), "x": Hostile()}, "t.pt", _use_new_zipfile_serialization=not legacy)
    stanza("t.pt")
    text = refused()
    assert "never run" in text and "convert it to safetensors" in text
    assert not Path("ran").exists()


def test_a_whole_pickled_model_is_refused() -> None:
    torch.save(nn.Linear(2, 2), "t.pt")
    stanza("t.pt")
    assert "save model.state_dict() alone" in refused()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("keep", [0, 4, 60, -7])
def test_truncated_weights(suffix: str, keep: int) -> None:
    weights = Path(f"t.{suffix}")
    save_file(tiny().state_dict(), weights) if suffix == "safetensors" else torch.save(tiny().state_dict(), weights)
    weights.write_bytes(weights.read_bytes()[:keep])
    stanza(weights)
    assert "cannot be read as weights" in refused()


def test_hash_is_checked_before_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(tiny().state_dict(), "t.safetensors")
    stanza("t.safetensors", sha256="0" * 64)
    monkeypatch.setattr(checkpoints, "read_tensors", lambda path: pytest.fail("read before its hash was checked"))
    assert "not 000000000000...: restore the file" in refused()


def test_weights_that_do_not_fit() -> None:
    state = tiny().state_dict()
    faults = {
        "missing: head.bias": {name: value for name, value in state.items() if name != "head.bias"},
        "not in the model: more": {**state, "more": torch.zeros(1)},
        "head.bias (3,) for (10,)": {**state, "head.bias": torch.zeros(3)},
        "head.bias (10,) for (10,)": {**state, "head.bias": torch.zeros(10, dtype=torch.int64)},
    }
    for text, tensors in faults.items():
        save_file(tensors, "t.safetensors")
        stanza("t.safetensors")
        assert text in refused()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, {"a": torch.zeros(1), "epoch": 3}])
def test_files_without_a_state_dict(content: Any) -> None:
    torch.save(content, "t.pt")
    stanza("t.pt")
    assert "is not a state_dict" in refused()


def test_where_weights_are_looked_for(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stanza("t.safetensors")
    monkeypatch.setenv("BENCH_MODELS", os.pathsep.join(["nowhere", "kept"]))
    text = refused()
    assert all(place in text for place in (str(elsewhere), "nowhere", "kept", "$BENCH_MODELS"))
    Path("kept").mkdir()
    save_file(tiny().state_dict(), "kept/t.safetensors")
    checkpoints.load("tiny")
    Path("cache/bench/models").mkdir(parents=True)
    Path("kept/t.safetensors").rename("cache/bench/models/t.safetensors")
    checkpoints.load("tiny")


def test_weights_from_a_url(elsewhere: Path) -> None:
    save_file(tiny().state_dict(), "t.safetensors")
    url = (elsewhere / "t.safetensors").as_uri()
    stanza(url)
    assert "no sha256 to check" in refused()
    stanza(url, sha256=hashlib.sha256(Path("t.safetensors").read_bytes()).hexdigest())
    first = checkpoints.load("tiny")
    Path("t.safetensors").unlink()
    assert checkpoints.load("tiny").sha256 == first.sha256
    stanza(url, sha256="0" * 64)
    assert "could not be fetched" in refused()


def test_weights_inside_a_package(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = elsewhere / "site" / "holder"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    save_file(tiny().state_dict(), package / "t.safetensors")
    monkeypatch.syspath_prepend(elsewhere / "site")
    stanza("package:holder/t.safetensors")
    checkpoints.load("tiny")
    stanza("package:holder/u.safetensors")
    assert "holds no file u.safetensors" in refused()
    stanza("package:holder_of_nothing/t.safetensors")
    assert "not installed" in refused()


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("x = 1\n", "not a table"),
        ("[x\n", "not TOML"),
        ('[x]\narch = "mlp"\nweight = "a"\n', "did you mean weights"),
        ('[x]\nweights = "a"\n', "no arch"),
        ("[x]\narch = 3\n", "arch must be a string"),
        ('[x]\narch = "mlp"\nargs = "hidden"\n', "args must be a table"),
        ('["a:b"]\narch = "mlp"\n', "choose another"),
        ('[x]\narch = "mlp"\nsha256 = "abc"\n', "64 hexadecimal"),
        ('[x]\narch = "mlp"\ntrained_for = { norm = "l7", eps = 1 }\n', "write { norm"),
        ('[x]\narch = "mlp"\ntrained_for = { norm = "l2", eps = true }\n', "not a number"),
        ('[x]\narch = "mlp"\ntrained_for = { norm = "l2", eps = "8/x" }\n', "not a number"),
        ('[x]\narch = "mlp"\ntrained_for = { norm = "l2", epsilon = 1 }\n', "write { norm"),
    ],
)
def test_faulty_stanzas(text: str, clause: str) -> None:
    path = Path("other.toml")
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        stanzas.read(path)
    assert clause in str(caught.value) and "other.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_eps_is_kept_as_written() -> None:
    Path("c.toml").write_text(
        '[a]\narch = "mlp"\ntrained_for = { norm = "linf", eps = "8/255" }\n'
        '[b]\narch = "mlp"\ntrained_for = { norm = "linf", eps = 0.031 }\n'
        '[c]\narch = "mlp"\ntrained_for = { norm = "l2" }\n'
    )
    known = stanzas.read(Path("c.toml"))
    assert known["a"].trained_for == ThreatModel("linf", 8 / 255, "8/255")
    assert known["b"].trained_for == ThreatModel("linf", 0.031, "0.031")
    assert known["c"].trained_for == ThreatModel("l2", None)


def test_working_directory_adds_and_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = set(stanzas.registry())
    Path("checkpoints.toml").write_text('[trades_mnist_smallcnn]\narch = "mlp"\n[mine]\narch = "mlp"\n')
    known = stanzas.registry()
    assert set(known) == built_in | {"mine"}
    assert known["trades_mnist_smallcnn"].arch == "mlp"
    monkeypatch.chdir(stanzas.built_in().parent)
    assert stanzas.registry()["trades_mnist_smallcnn"].arch == "small_cnn"


def test_unknown_names() -> None:
    assert "did you mean trades_mnist_smallcnn" in refused("trades_mnist_smalcnn")
    assert "file.py:make" in refused("net.py")
    Path("checkpoints.toml").write_text('[x]\narch = "small_cn"\nweights = "t.pt"\n')
    torch.save(tiny().state_dict(), "t.pt")
    assert "did you mean small_cnn" in refused("x")
    Path("checkpoints.toml").write_text('[x]\narch = "small_cnn"\n')
    assert "untrained" in refused("x")
    Path("checkpoints.toml").write_text('[x]\narch = "small_cnn"\nargs = { heads = "linear" }\nweights = "t.pt"\n')
    assert "unexpected keyword argument 'heads'" in refused("x")


FACTORIES = """
import torch, beside
from torch import nn

def make(width=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.Dropout(beside.RATE))

class Net(nn.Flatten):
    pass

ready = Net()
number = 3

def broken():
    raise ValueError("no such\\nfile")

def other():
    return 3
"""


@pytest.fixture
def factories() -> None:
    Path("zoo").mkdir()
    Path("zoo/nets.py").write_text(FACTORIES)
    Path("zoo/beside.py").write_text("RATE = 0.5")


@pytest.mark.usefixtures("factories")
def test_factories_of_a_file() -> None:
    loaded = checkpoints.load("zoo/nets.py:make")
    assert not any(part.training for part in loaded.model.modules())
    assert loaded.checkpoint.name == "zoo/nets.py:make" and loaded.checkpoint.trained_for is None
    assert len(loaded.sha256) == 64 and loaded.sha256 == checkpoints.load("zoo/nets.py:make").sha256
    assert isinstance(checkpoints.load("zoo/nets.py:Net").model, nn.Flatten)
    assert isinstance(checkpoints.load("zoo/nets.py:ready").model, nn.Flatten)


@pytest.mark.usefixtures("factories")
def test_faulty_factories() -> None:
    assert "did you mean make" in refused("zoo/nets.py:mak")
    assert "no file" in refused("zoo/net.py:make")
    assert "ValueError (no such file)" in refused("zoo/nets.py:broken")
    assert "returned int, not an nn.Module" in refused("zoo/nets.py:other")
    assert "not a factory" in refused("zoo/nets.py:number")
    assert "no module 'absent_module'" in refused("absent_module.nets:make")
    for text in ("import absent_module", "syntax error", "raise SystemExit(3)", "1 / 0"):
        Path("bad.py").write_text(text)
        assert "importing it failed" in refused("bad.py:make")


@pytest.mark.usefixtures("factories")
def test_a_module_of_the_working_directory() -> None:
    Path("own_nets_of_test.py").write_text("from torch import nn\ndef make():\n    return nn.Flatten()\n")
    assert isinstance(checkpoints.load("own_nets_of_test:make").model, nn.Flatten)


@pytest.mark.usefixtures("factories")
def test_a_stanza_may_name_a_factory() -> None:
    torch.save({"1.weight": torch.ones(2, 4), "1.bias": torch.zeros(2)}, "zoo/w.pt")
    toml = '[mine]\narch = "nets.py:make"\nargs = { width = 2 }\nweights = "w.pt"\n'
    Path("zoo/checkpoints.toml").write_text(toml)
    loaded = checkpoints.load_checkpoint(stanzas.read(Path("zoo/checkpoints.toml"))["mine"])
    assert loaded.model(torch.ones(1, 1, 2, 2)).tolist() == [[4.0, 4.0]]


def test_state_sha256_sees_every_tensor() -> None:
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    assert checkpoints.state_sha256(first) == checkpoints.state_sha256(second)
    second.get_buffer("running_mean")[0] = 1e-6
    assert checkpoints.state_sha256(first) != checkpoints.state_sha256(second)
    assert checkpoints.state_sha256(nn.Linear(2, 2).bfloat16())


def third_party(monkeypatch: pytest.MonkeyPatch, given: str | None, name: str) -> Any:
    place = Path(given) if given else ROOT.parent / "shared" / "models"
    if not (place / f"{name}.safetensors").is_file():
        pytest.skip(f"third-party weights {name} are absent: name their directory in $BENCH_MODELS")
    monkeypatch.setenv("BENCH_MODELS", str(place))
    return checkpoints.load(name).model


GIVEN = os.environ.get("BENCH_MODELS")


@pytest.mark.parametrize(("count", "expected"), [(1000, 994), pytest.param(10_000, 9948, marks=pytest.mark.slow)])
def test_trades_reaches_its_published_clean_accuracy(
    count: int, expected: int, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = third_party(monkeypatch, GIVEN, "trades_mnist_smallcnn")
    images, labels = (
        np.frombuffer(
            gzip.decompress((real_data / "mnist" / f"t10k-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=skip
        )
        for kind, skip in (("images-idx3", 16), ("labels-idx1", 8))
    )
    x = torch.from_numpy(images.copy()).view(-1, 1, 28, 28).float() / 255
    assert right(model, x[:count], labels[:count]) == expected


def test_cnn_a_reaches_its_measured_clean_accuracy(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = third_party(monkeypatch, GIVEN, "cifar_cnn_a_adv")
    x, labels = cifar(real_data)
    assert right(model, x, labels) == 6975


def test_a_torch_file_of_another_package_loads(real_data: Path) -> None:
    if find_spec("pyautoattack") is None:
        pytest.skip("the weights come with pyautoattack, which is not installed")
    model = checkpoints.load("natural_resnet18_cifar10").model
    x, labels = cifar(real_data)
    assert right(model, x[:50], labels[:50]) >= 45


def cifar(real_data: Path) -> tuple[torch.Tensor, Any]:
    rows = np.fromfile(real_data / "cifar10" / "cifar-10-batches-bin" / "test_batch.bin", np.uint8).reshape(-1, 3073)
    return torch.from_numpy(rows[:, 1:].copy()).view(-1, 3, 32, 32).float() / 255, rows[:, 0]


def right(model: Any, x: torch.Tensor, labels: Any) -> int:
    with torch.no_grad():
        guesses = torch.cat([model(part).argmax(1) for part in x.split(500)])
    return int((guesses.numpy() == labels).sum())
