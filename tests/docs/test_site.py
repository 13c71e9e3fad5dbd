"""The documentation as a site: it builds without a warning, and reading it asks nothing of other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.checkout import ROOT

pytest.importorskip("mkdocs")
_ASKED = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*\shref=\"(?:https?:)?//")


@pytest.mark.slow  # `make docs` builds it in CI
def test_site_builds_and_stands_alone(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not _ASKED.search(page.read_text(encoding="utf-8")), page
    for name in ("quickstart.html", "results/mat.html", "results/figures/mat-2-mnist-linf.png", "api/plugin.html"):
        assert (tmp_path / name).exists()
