"""Pages are made from templates that share a frame and the rules of judgement."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import registry
from bench.papers import page_templates
from tests.support.stored_runs import NUMBERS

PLACE = Path(page_templates.__file__).parent


def test_every_page_has_a_template() -> None:
    assert sorted(path.parent.name for path in PLACE.glob("*/page.md.j2")) == list(registry.pages)


@pytest.mark.parametrize("name", list(registry.pages))
def test_pages_have_the_shared_frame_and_short_lines(name: str) -> None:
    text = registry.pages[name]([], NUMBERS)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads[0] == "## Verdicts" and heads[-2:] == ["## How the verdicts are reached", "## What was run"]
    assert f"(`bench page {name}`)" in " ".join(text.split()) and text.endswith("Nothing: not run.\n")
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))
    assert "over the images that all of those on at least 500 images, or on all, have met" in " ".join(text.split())
    assert "{" not in text and "\N{NO-BREAK SPACE}" not in text


def test_lines_end_where_nothing_is_torn_apart() -> None:
    text = "- " + "x" * 110 + " p < 0.05\n- " + "y" * 116 + " 95 % of all"
    assert page_templates.wrapped(text) == ("- " + "x" * 110 + "\n  p < 0.05\n- " + "y" * 116 + "\n  95 % of all")
