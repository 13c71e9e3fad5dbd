"""Captions are data: there is one for every table and figure, and it fits a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.core import registry
from bench.papers.captions import captions

LETTERS = 400
"""Four lines of a caption on an A4 page."""


@pytest.mark.parametrize("kind", ["tables", "figures"])
def test_every_table_and_figure_has_a_caption_of_at_most_four_lines(kind: str) -> None:
    known = captions(kind)
    assert list(known) == list(getattr(registry, kind))
    for name, caption in known.items():
        assert caption.title.endswith(".") and "\n" not in caption.title and len(caption.title) <= LETTERS, name


def test_tables_say_how_to_read_them() -> None:
    known = captions("tables")
    assert all(caption.notes for caption in known.values())
    assert known["er/6"].notes == known["er/3"].notes and known["mat/2"].headings["so"] == "SO"
    assert not known["er/6"].headings


def test_captions_are_there_without_docstrings(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom bench.papers import publish\n"
        "from bench.cli.main import main\n"
        "publish.table('er/4', [], Path('out'))\n"
        "print(publish.figure('er/5', [], Path('out')))\n"
        "print(Path('out/er-4.tex').read_text())\n"
        "main.main(['list', 'tables'], standalone_mode=False)\n"
    )
    command = [sys.executable, "-OO", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-400:]
    assert r"\caption{Detectors fitted on PGD against high-confidence C\&W (ER-Classifier, table 4).}" in done.stdout
    assert "needs `bench probe RUN --probes plane`" in done.stdout and "NADV: right clean" in done.stdout
    assert "mat/4          Robust accuracy under PGD and under adaptive attacks (MAT, table 4)." in done.stdout
