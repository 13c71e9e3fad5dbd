"""Every table that stored runs make is set by a real LaTeX: nothing is wider or longer than an A4 page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.core import registry
from bench.papers import publish
from bench.report import detection_table, run_table
from bench.store.detections import Detection

RUNS = Path(__file__).parents[2] / "results/runs"
HEAD = r"\documentclass[a4paper]{article}\usepackage{booktabs,graphicx}\begin{document}"
ALLOWED = 5.0
"""How many points beyond the text nobody sees."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-recommended)")
@pytest.mark.skipif(not RUNS.is_dir(), reason="needs the stored runs of a checkout")
def test_every_table_fits_a_page(tmp_path: Path) -> None:
    runs = publish.load([RUNS])
    for name in registry.tables:
        publish.table(name, runs, tmp_path / "papers")
    for place, run in enumerate(runs):
        if isinstance(run, Detection):
            detection_table.write(run, tmp_path / f"{place}")
        else:
            run_table.write(run, tmp_path / f"{place}")
            if run.record.eps_grid:
                run_table.write_curve(run, tmp_path / f"{place}")
    tables = sorted(tmp_path.rglob("*.tex"))
    assert len(tables) > len(runs)
    body = [rf"\typeout{{TABLE {path.relative_to(tmp_path)}}}\input{{{path}}}\clearpage" for path in tables]
    (tmp_path / "all.tex").write_text("\n".join([HEAD, *body, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", done.stdout)]
    assert max(wide, default=0.0) <= ALLOWED and "too large for page" not in done.stdout
