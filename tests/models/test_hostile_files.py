"""Weights and stanzas that somebody else wrote: refused before they take memory, and never run."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.core.types import UserError
from bench.models import checkpoints, stanzas
from bench.models.weights import read_tensors
from tests.support.limits import read_apart

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}
READ = "from pathlib import Path\nfrom bench.models.weights import read_tensors\nimport torch; torch.zeros(1)"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def own(depth: int) -> dict[str, Any]:
    """A state_dict that is reached through so many others and, for 0, is itself."""
    content: dict[str, Any] = {}
    content["state_dict"] = content
    for _ in range(depth):
        content = {"model": content}
    return content if depth == 0 else {"model": own(0)}


@pytest.mark.parametrize("depth", [0, 3])
def test_a_state_dict_that_holds_itself(tmp_path: Path, depth: int) -> None:
    torch.save(own(depth), tmp_path / "w.pt")
    assert "holds one in another without end" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tensor: tensor.to_sparse(), "a sparse tensor"),
        (lambda tensor: tensor.to_sparse_csr(), "a sparse tensor"),
        (lambda tensor: tensor.to("meta"), "a tensor without content"),
        (lambda tensor: torch.nested.nested_tensor([tensor[0], tensor[1]]), "a nested tensor"),
        (lambda tensor: tensor.to(torch.complex64), "complex numbers"),
    ],
)
def test_tensors_that_are_no_plain_numbers(tmp_path: Path, change: Callable[[Tensor], Tensor], kind: str) -> None:
    torch.save({**STATE, "a": change(STATE["a"])}, tmp_path / "w.pt")
    assert f"holds 'a' as {kind}, not as plain numbers" in refusal(tmp_path / "w.pt")


def test_a_shape_beyond_memory_is_compared_and_not_made(tmp_path: Path) -> None:
    torch.save({**STATE, "a": torch.zeros(1).expand(10**12)}, tmp_path / "w.pt")
    model = torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match="do not fit"):
        checkpoints.fit(model, read_tensors(tmp_path / "w.pt"))


def test_a_packed_file_that_unpacks_past_what_is_needed(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(150_000_000)}, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert (tmp_path / "w.pt").stat().st_size < 2**20
    mebibytes, said = read_apart(tmp_path, READ, "read_tensors(Path('w.pt'))")
    assert "it declares 600," in said and "more than the 67,108,864 that it may have" in said
    assert mebibytes < 100


def test_a_packed_file_that_the_model_needs_is_read(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save(STATE, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert torch.equal(read_tensors(tmp_path / "w.pt", needed=32)["a"], STATE["a"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "its header has 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 100) + b"{}", "cannot be read as weights"),
        (struct.pack("<Q", 14) + b'{"a":' + b"[" * 9, "cannot be read as weights"),
    ],
)
def test_absurd_safetensors(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert said in refusal(tmp_path / "w.safetensors")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pt")
    (tmp_path / "x.pt").symlink_to("/dev/zero")
    for name in ("w.pt", "x.pt"):
        assert "it is not a regular file" in refusal(tmp_path / name)


# --- stanzas

BY = '[{name}]\narch = "{arch}"\ndata = "digits"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def asked(name: str = "mine") -> str:
    with pytest.raises(UserError) as caught:
        checkpoints.load(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("arch", ["os:mkdir", "builtins:exec", "sys:exit", "torch.nn:Linear", "net.py:", "net.py:f.g"])
def test_a_stanza_names_no_code_of_a_package(home: Path, arch: str) -> None:
    (home / "checkpoints.toml").write_text(BY.format(name="mine", arch=arch) + 'args = { path = "ran" }\n')
    assert "is code that a file may not name" in asked()
    assert not (home / "ran").exists()


@pytest.mark.parametrize(
    "arch", ["../evil.py:make", "a/../../evil.py:make", "{home}/../evil.py:make", "link.py:make", "~/evil.py:make"]
)
def test_a_stanza_names_no_file_elsewhere(home: Path, arch: str) -> None:
    (home.parent / "evil.py").write_text("open('ran', 'w')")
    (home / "link.py").symlink_to("../evil.py")
    (home / "checkpoints.toml").write_text(BY.format(name="mine", arch=arch.format(home=home)))
    assert "lies outside the folder of the file that names it" in asked()
    assert not (home / "ran").exists()


NET = "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"


def test_a_file_beside_the_stanza_is_run_and_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "net.py").write_text(NET)
    (home / "checkpoints.toml").write_text(BY.format(name="mine", arch="net.py:make"))
    stanzas_said = capsys.readouterr().err
    checkpoints.announce.cache_clear()
    checkpoints.load("mine")
    assert capsys.readouterr().err == f"bench: model 'mine' runs {home / 'net.py'}, which its stanza names\n"
    assert stanzas_said == ""


def test_a_built_in_name_that_is_replaced_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "net.py").write_text(NET)
    (home / "checkpoints.toml").write_text(BY.format(name="mat_digits", arch="net.py:make"))
    assert stanzas.registry().replaced == {"mat_digits"}
    checkpoints.announce.cache_clear()
    checkpoints.load("mat_digits")
    assert f"model 'mat_digits' is the one of {home}, which replaces the built-in one" in capsys.readouterr().err


DAMAGED = [
    '[bad]\narch = "mlp"\ntrained_for = { norm = "linf", eps = 8 }\n',
    '[bad]\narch = "mlp"\nweihgts = "x"\n',
    '[bad]\narch = "mlp\n',
    "[bad]\narch = " + "[" * 10_000 + "\n",
    "[bad]\narch = " + "9" * 5_000 + "\n",
    "[bad]\n\x00\n",
    '[bad]\narch = "a:b"\n',
    "[bad]\nx = 1\n[bad]\nx = 2\n",
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("before", [True, False])
def test_one_damaged_stanza_costs_no_other(home: Path, text: str, before: bool) -> None:
    sound = '[good]\narch = "mlp"\nargs = { hidden = [4] }\n[good.rename]\na = "b"\n'
    (home / "checkpoints.toml").write_text(text + sound if before else sound + text)
    known = stanzas.registry()
    assert known["good"].args == {"hidden": [4]} and known["good"].rename == {"a": "b"}
    assert known["mat_digits"].arch == "digits_cnn"
    assert set(known.faults) == {"bad"} and "checkpoints.toml" in known.faults["bad"]
    assert asked("bad") == known.faults["bad"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_registry_that_is_no_file_leaves_the_built_in_one(home: Path, make: Callable[[Path], None]) -> None:
    make(home / "checkpoints.toml")
    known = stanzas.registry()
    assert known["mat_digits"].arch == "digits_cnn"
    assert "cannot be read" in known.faults[str(home / "checkpoints.toml")]


def test_an_architecture_beyond_memory_is_not_made(home: Path) -> None:
    setup = "from pathlib import Path\nfrom bench.models.factory import build\nimport torch; torch.zeros(1)"
    call = "build('mlp', {'hidden': [400_000, 400_000], 'image': 8}, Path())"
    mebibytes, said = read_apart(home, setup, call)
    assert "mlp with these args has 596.2 GiB of weights, more than memory holds" in said and mebibytes < 300
