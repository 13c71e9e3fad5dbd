"""Pages from their templates: `page.md.j2` of every paper, on top of the one that they share."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from bench.core.text import without_tags
from bench.papers.claims import ClaimResult
from bench.papers.verdict_tables import in_short, table
from bench.report.model_runs import ENOUGH
from bench.report.render import markdown

_WIDTH = 120
_TOGETHER = re.compile(r" (?=[%<])|(?<=<) ")
"""Spaces that no line ends at: before a unit, and around a sign."""
_HARD = "\N{NO-BREAK SPACE}"


def page(paper: str, **content: Any) -> str:
    """The page of the paper in the folder `paper`, with what its template asks for."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["wrapped"] = wrapped
    return without_tags(environment.get_template(f"{paper}/page.md.j2").render(paper=paper, enough=ENOUGH, **content))


def gains(results: list[ClaimResult], attack: str) -> dict[str, str]:
    """A section of gains as the templates have it: in short, and as a table with the paper's attack in a column."""
    return {"attack": attack, "in_short": in_short(results), "table": markdown(table(results, attack))}


def wrapped(text: str) -> str:
    """A paragraph or the items of a list in lines of at most 120 letters."""
    lines = [
        textwrap.fill(
            _TOGETHER.sub(_HARD, " ".join(item.split())),
            _WIDTH,
            subsequent_indent="  " if item.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for item in re.split(r"\n(?=- )", text.strip())
    ]
    return "\n".join(lines).replace(_HARD, " ")
