"""What is typed at both doors: counts, places, devices, factories; and what is printed there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bench.core.terminal import PrintableStream
from bench.core.types import UserError
from bench.ops.devices import device_named
from defenses.__main__ import entry as defenses_entry
from tests.support.checkout import ROOT

RUN = ("run", "--model", "tiny", "--attacks", "fgsm", "--device", "cpu")
LONG, DEEP = "x" * 5000, "/".join(["d" * 200] * 30)


def refused(said: Any) -> str:
    """The one line that a command was refused with."""
    (line,) = said.err.splitlines()
    assert said.code == 2 and "internal error" not in line and len(line) < 1500
    return str(line)


@pytest.mark.parametrize("option", ["-n", "--seed", "--batch-size"])
@pytest.mark.parametrize("value", ["9" * 400, "9" * 5000, "-" * 3000 + "1", "1.5", "", "x", "1e3", str(2**63)])
def test_counts_and_seeds_are_whole_numbers_of_64_bits(bench: Any, option: str, value: str) -> None:
    assert refused(bench(*RUN, option, value)).startswith(f"bench: {option} ")


def test_the_largest_seed_is_taken(bench: Any) -> None:
    assert bench(*RUN, "-n", "2", "--seed", str(2**63 - 1), "--out", "o").code == 0


@pytest.mark.parametrize("command", ["run", "sweep-eps", "detect"])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "'' is no path"),
        ("f", "f is not a folder"),
        ("f/x", "f is not a folder"),
        (LONG, "a name in it is longer than 255 bytes"),
        (f"new/{LONG}", "a name in it is longer than 255 bytes"),
        ("/proc/x", "/proc/x cannot be written"),
        ("/dev/null", "/dev/null is not a folder"),
    ],
)
def test_places_are_asked_before_anything_runs(bench: Any, command: str, out: str, said: str) -> None:
    Path("f").write_text("kept")
    option = "--attack" if command == "sweep-eps" else "--attacks"
    more = ("--detector", "kd") if command == "detect" else ()
    line = refused(bench(command, "--model", "no_such_model", option, "fgsm", *more, "--out", out))
    if not out.startswith("new/"):
        assert said.removesuffix(" is not a folder") in line
    assert Path("f").read_text() == "kept" and not Path("new").exists()


@pytest.mark.parametrize("path", ["", LONG, DEEP, "/dev/full", "/dev/null", "/proc/x", "\udcff", "~no_such_user/x"])
@pytest.mark.parametrize(
    "words",
    [
        ("verify", "{}"),
        ("audit", "{}"),
        ("compare", "{}", "{}"),
        ("probe", "{}", "--probes", "cosine"),
        ("check", "--baseline", "{}"),
        ("check", "--baseline", "b.csv", "--add", "{}"),
        ("table", "mat/4", "--runs", "{}"),
        (*RUN, "--data-dir", "{}", "--data", "mnist"),
        (*RUN, "--data", "folder:{}"),
    ],
    ids=range(9),
)
def test_paths_that_lead_nowhere(bench: Any, words: tuple[str, ...], path: str) -> None:
    refused(bench(*(word.format(path) for word in words)))


@pytest.mark.parametrize(
    "name", ["meta", "mps", "hpu", "privateuseone", "mkldnn", "lazy", "", "cpu:-1", "cuda:99", LONG, "\x1b"]
)
def test_devices_that_cannot_compute(name: str) -> None:
    with pytest.raises(UserError, match="is not available here: use cpu or auto"):
        device_named(name)


def test_the_cpu_is_a_device() -> None:
    assert device_named("cpu") == "cpu"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("sys:exit", "is a function of Python itself"),
        ("os:_exit", "is a function of Python itself"),
        ("builtins:exit", "asked Python to exit"),
        ("subprocess:Popen", "is a class, but no nn.Module"),
        ("os:getcwdb", "is a function of Python itself"),
        ("bench.cli.main:entry", "a command line was called from inside another"),
        ("bench.cli.main:main", "asks for itself"),
        ("m.py:leaves", "asked Python to exit"),
        ("m.py:raises", "failed with Odd"),
        ("m.py:maek", "did you mean make"),
        ("m.py:zzzzzz", "known: Odd, leaves, raises, make"),
        ("a\0b.py:make", "there is no file"),
    ],
)
def test_factories_that_give_no_model(bench: Any, model: str, said: str) -> None:
    Path("m.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom os import system\n"
        "class Odd(BaseException):\n    def __str__(self): raise ValueError\n"
        "def leaves(): sys.exit(0)\ndef raises(): raise Odd\ndef make(): return 3\n"
    )
    assert said in refused(bench("run", "--model", model, "--data", "digits", "--attacks", "fgsm"))


def test_a_misspelt_class_is_told_what_the_file_defines(bench: Any) -> None:
    Path("a.py").write_text("from dataclasses import dataclass\nfrom pathlib import Path\nclass Mine: pass\n")
    line = refused(bench("run", "--model", "tiny", "--attacks", "a.py:Mien", "-n", "2"))
    assert line == "bench: attack file 'a.py' has no class 'Mien': did you mean Mine?"
    line = refused(bench("run", "--model", "tiny", "--attacks", "a.py:zzzz", "-n", "2"))
    assert line.endswith("known: Mine")


def test_detecting_needs_images_for_every_part(bench: Any) -> None:
    words = ("detect", "--model", "tiny", "--detector", "lid", "--attacks", "fgsm", "-n", "1", "--out", "o")
    assert "leave none for fit: give a larger -n" in refused(bench(*words))


@pytest.mark.parametrize("said", ["{ pgd = { steps = -5 } }", "{ pgd = { restarts = 0 } }"])
def test_what_a_stanza_says_of_attacks_is_held_to_their_bounds(bench: Any, said: str) -> None:
    path = Path("checkpoints.toml")
    path.write_text(path.read_text().replace("{ kl = { beta = 2.0 } }", said))
    assert "trained_with.pgd of the model: " in refused(bench("run", "--model", "tiny", "--attacks", "pgd", "-n", "4"))


def test_damaged_stanzas_are_named_by_the_list(bench: Any) -> None:
    with Path("checkpoints.toml").open("a") as file:
        file.write('[broken]\narch = "mlp"\ntrained_for = { norm = "linf", eps = 8 }\n')
    listed = bench("list", "models")
    (line,) = listed.err.splitlines()
    assert listed.code == 0 and "mat_digits" in listed.out and "tiny" in listed.out and "broken" not in listed.out
    assert "model 'broken': eps 8 in linf is beyond the range of images" in line
    assert bench(*RUN, "-n", "2", "--out", "o").code == 0


# --- what is printed


class Stream:
    def __init__(self, encoding: str) -> None:
        self.encoding, self.closed, self.text = encoding, False, ""

    def write(self, text: str) -> None:
        text.encode(self.encoding)
        self.text += text


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "ε ≤ 8\t\\x1b[31mred\\x9b\n\\udcff"),
        ("ascii", "eps <= 8\t\\x1b[31mred\\x9b\n\\udcff"),
        ("latin-1", "eps <= 8\t\\x1b[31mred\\x9b\n\\udcff"),
    ],
)
def test_what_is_printed_commands_no_terminal(encoding: str, printed: str) -> None:
    stream = Stream(encoding)
    PrintableStream(stream).write("ε ≤ 8\t\x1b[31mred\x9b\n\udcff")  # type: ignore[arg-type]
    assert stream.text == printed


def spoken(words: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = "from bench.cli.main import entry; entry()"
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=known, capture_output=True, check=False)


def test_names_with_control_characters_are_listed_as_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("checkpoints.toml").write_text('[mine]\narch = "mlp"\ndefense = "\\u001b[31mred"\n')
    ours, theirs = os.openpty()  # what is no terminal would get no colours from click
    command = [sys.executable, "-c", "from bench.cli.main import entry; entry()", "list", "models"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=theirs):
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65536):
                printed += part
    os.close(ours)
    assert b"\x1b" not in printed and b"\\x1b[31mred" in printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_a_terminal_lacks_end_no_run(bench: Any, encoding: str) -> None:
    done = spoken([*RUN, "-n", "2", "--out", "o"], PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    done.stdout.decode(encoding)


def test_standard_output_that_is_closed_is_said_before_anything_runs(bench: Any) -> None:
    code = "from bench.cli.main import entry; entry()"
    command = f"{sys.executable} -c '{code}' run --model tiny --attacks fgsm -n 2 --out o >&-"
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("bench: standard output is closed")
    assert not Path("o").exists()


# --- the other door


@pytest.fixture
def defenses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., str]:
    """A refusal of `python -m defenses`."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["defenses", *words])
        with pytest.raises(SystemExit) as left:
            defenses_entry()
        (line,) = capfd.readouterr().err.splitlines()
        assert left.value.code == 2 and "internal error" not in line
        return str(line)

    return call


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.momentum=-5"], "train.momentum is -5.0: give a number of at least 0 and at most 1"),
        (["train.epochs=" + "9" * 400], "train.epochs is 9999"),
        (["data.crop_padding=1000000"], "at least 0 and at most 256"),
        (["train.device=meta"], "device 'meta' is not available here"),
        (["model.arch=os:mkdir"], "is code that a file may not name"),
        (["model.arch=../net.py:make"], "lies outside the folder"),
        (["model.args={hidden=[400000,400000]}", "model.arch=mlp"], "of weights, more than memory holds"),
        (["paper.expect={clean=-5}"], "paper.expect.clean is -5: give a number of at least 0"),
        (["name=../x"], "use at most 100 letters, digits, - and _"),
    ],
)
def test_settings_of_a_training(defenses: Any, settings: list[str], said: str) -> None:
    assert said in defenses("train", "natural_digits", *(part for one in settings for part in ("--set", one)))


@pytest.mark.parametrize("out", ["", LONG, "/proc/x", "/dev/null"])
def test_places_of_a_training(defenses: Any, out: str) -> None:
    defenses("train", "natural_digits", "--out", out)
    defenses("adopt", "d", "--into", out)
