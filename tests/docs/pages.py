"""The Markdown of README, docs and examples, cut into what can be tested: command blocks, tables, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkout import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
RUN = ("bash", "console", "python")
"""Languages of the fenced blocks that are run."""

_FENCE = re.compile(
    r"(?:^<!-- test: (?P<said>.*?) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>.*?)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NUMBERS = re.compile(r"^<!-- numbers: (.*?) -->\n((?:\|.+\n)+)", re.MULTILINE)
_SAME = re.compile(r"^<!-- same as: (.*?) -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is titled as, its text, and what the comment above it says."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    said: tuple[str, ...]

    @property
    def name(self) -> str:
        """Where it is, for the name of its test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def says(self, word: str) -> str | None:
        """What follows a word in the comment, as in `exit 2`; None if the word is not there."""
        return next((part.removeprefix(word).strip() for part in self.said if part.split(" ")[0] == word), None)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        said = tuple(part.strip() for part in (match["said"] or "").split(",") if part.strip())
        line = text[: match.start("language")].count("\n") + 1
        found.append(Block(page, line, match["language"], match["title"] or "", match["text"], said))
    return found


def tables(page: Path) -> list[tuple[tuple[str, ...], str]]:
    """The tables below a `<!-- numbers: FILES -->`: where their cells are stored, and their text."""
    return [(tuple(sources.split()), text) for sources, text in _NUMBERS.findall(page.read_text(encoding="utf-8"))]


def printed_runs(page: Path) -> list[tuple[str, str]]:
    """The blocks below a `<!-- same as: RUN -->`: the stored run, and what the page shows of it."""
    return _SAME.findall(page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of the links and images outside code blocks."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [match["target"] for match in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Python-Markdown make them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in _HEADING.findall(text)
    }
