"""README and docs keep their word: every command block runs, every link resolves, everything there is is named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench.core.registry import attacks, datasets, detectors, probes
from tests.docs import pages, warm
from tests.support.checkout import ROOT

BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page)]
STORED = ("runs", "demo", "baseline.csv", "training", "strength", "parity")
"""What a command may read of `results/`; it writes beside them, not into them."""


def _marked(block: pages.Block) -> object:
    marks = []
    if (reason := block.says("skip")) is not None:
        assert reason, f"{block.name}: say why it cannot be run"
        marks.append(pytest.mark.skip(reason=reason))
    if block.says("slow") is not None or block.says("data") is not None:
        marks.append(pytest.mark.slow)
    return pytest.param(block, id=block.name, marks=marks)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that looks like a checkout with stored results, and in which nothing of the checkout is written."""
    (tmp_path / "results").mkdir()
    for name in STORED:
        (tmp_path / "results" / name).symlink_to(ROOT / "results" / name)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def _commands(block: pages.Block) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that the page shows for it."""
    if block.language == "python":
        return [(f"python {block.title or 'block.py'}", "")]
    if block.language == "bash":
        lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
        return [(line, "") for line in lines if line.strip() and not line.startswith("#")]
    parts = re.split(r"^\$ (.+)$", block.text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _run(command: str, home: Path) -> tuple[int, str]:
    if warm.is_plain(command):
        return warm.run(command, home)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=home,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("block", [_marked(block) for block in BLOCKS if block.language in pages.RUN])
def test_every_command_block_runs(block, home, request, monkeypatch):
    if block.says("data") is not None:
        monkeypatch.setenv("BENCH_DATA", str(request.getfixturevalue("real_data")))
    for other in pages.blocks(block.page):
        if other.title:
            (home / other.title).write_text(other.text, encoding="utf-8")
    if block.language == "python" and not block.title:
        (home / "block.py").write_text(block.text, encoding="utf-8")
    for command, shown in _commands(block):
        code, said = _run(command, home)
        assert code == int(block.says("exit") or 0), f"{command}\n{said[-2000:]}"
        rest = said
        for piece in filter(None, map(str.strip, re.split(r"^\.\.\.$", shown, flags=re.MULTILINE))):
            _, there, rest = rest.partition(piece)
            assert there, f"{command} does not print\n{piece}\nbut\n{said}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=lambda block: block.name)
def test_toml_is_toml(block):
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target in pages.links(page):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} leads nowhere"
        assert there.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in pages.anchors(there), f"{target} names no heading"


def test_readme_is_a_front_door():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert not [line for line in lines if len(line) > 120]


def test_commands_names_everything_there_is():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_0-9-]+)[`(]", text))
    for known in (attacks, probes, detectors):
        assert not set(known) - named, "give it a line in docs/commands.md"
    assert not set(datasets) - set(re.findall(r"`([a-z_0-9]+)`", (ROOT / "docs" / "own-data.md").read_text()))


def test_commands_names_every_option():
    from bench.cli.main import main

    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name, command in main.commands.items():
        assert f"bench {name}" in text or f"`{name}`" in text, f"docs/commands.md lacks {name}"
        for option in (longest for part in command.params for longest in part.opts if longest.startswith("-")):
            assert option in text, f"docs/commands.md lacks {name} {option}"


def test_architecture_names_what_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:bench|defenses|experiments|benchmarks|evaluation|store)(?:/[a-z_./]+)?)`", text)
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "bench" / name).exists(), f"there is no {name}"
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert not folders - {name.removeprefix("bench/") for name in named}
