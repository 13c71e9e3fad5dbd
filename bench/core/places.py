"""Where files are looked for: what comes with the program, data sets, the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path

from bench.core.types import UserError


def cache_dir() -> Path:
    """The user's cache of this program, where the platform keeps caches: `~/.cache/bench`, by `$XDG_CACHE_HOME`."""
    return user_cache_path("bench", appauthor=False)


PACKAGE = Path(__file__).parent.parent
"""Where the package lies. Its parent is the checkout, or site-packages."""


def shipped(name: str, checkout: str | None = None) -> Path:
    """A file that comes with the program: inside an installed copy, else at `checkout` (or `name`) in the checkout."""
    installed = PACKAGE / "builtin" / name
    return installed if installed.exists() else PACKAGE.parent / (checkout or name)


def directories(data_dir: str | None = None) -> list[Path]:
    """Where data sets are looked for, in order: `data_dir` if given, `$BENCH_DATA` if set, the user's cache."""
    given = [place for place in (data_dir, os.environ.get("BENCH_DATA")) if place]
    return [*map(expanded, given), cache_dir() / "data"]


def expanded(written: str) -> Path:
    """A path with `~` replaced by a home directory.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise UserError(f"{written} starts in a home directory that is not known: write the path in full") from None


def search(relative: str, places: Iterable[Path]) -> Path | None:
    """The first of `places` that holds the file `relative`, as a path to that file."""
    return next((place / relative for place in places if is_file(place / relative)), None)


def is_file(path: Path) -> bool:
    """Whether a regular file lies there; False for a path that no file can have, such as one that is too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder lies there; False for a path that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
