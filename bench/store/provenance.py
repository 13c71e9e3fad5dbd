"""Where numbers come from: the versions and the commit that made them."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from typing import Any

from bench.core.extras import DISTRIBUTION
from bench.core.places import PACKAGE

_PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")
_CHECKOUT = PACKAGE.parent


def provenance() -> dict[str, Any]:
    """Package versions, Python, platform, and the commit of the checkout; commit "" and dirty None outside one."""
    versions = {}
    for package, distribution in {"bench": DISTRIBUTION, **dict(zip(_PACKAGES, _PACKAGES, strict=True))}.items():
        try:
            versions[package] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    commit = _git("rev-parse", "HEAD")
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit,
        "dirty": dirty,
    }


def _git(*words: str) -> str:
    # An installed copy may lie inside somebody else's repository: that commit would be a lie.
    if not (_CHECKOUT / ".git").exists():
        return ""
    command = ["git", "-C", str(_CHECKOUT), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
