"""What the site has beside `docs/`: generated pages and figures of `results/`, and a few files of the top folder.

The Markdown links to them as they lie in the repository, so that it reads well there too; here they are added to the
site, and links that leave `docs/` are turned to where they are.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE")
FOLDERS = ("results/*.md", "results/speed/*.csv", "results/figures/*.png", "results/strength/*.md")
FOLDERS += ("results/parity/*.md", "examples/*")
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that lie outside `docs/`, at the same place that they have in the repository."""
    paths = [ROOT / name for name in SHOWN if name != "README.md"]
    paths += [path for pattern in FOLDERS for path in sorted(ROOT.glob(pattern)) if path.is_file()]
    for path in paths:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between `docs/` and the rest of the repository to where the files are in the site."""
    here = page.file.src_uri
    inside = (ROOT / "docs" / here).is_file()
    home = PurePosixPath("docs" if inside else ".") / PurePosixPath(here).parent

    def turned(match: re.Match[str]) -> str:
        target = normpath(str(home / match[2]))
        place = target.removeprefix("docs/")
        known = files.get_file_from_path(place) is not None
        return f"{match[1]}{relpath(place, str(PurePosixPath(here).parent))}{match[3]}" if known else match[0]

    return _LINK.sub(turned, markdown)
