"""bench: a robustness evaluation harness for image classifiers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import Run, certify, evaluate, load_run
    from bench.core.types import UserError

__all__ = ["Run", "UserError", "certify", "evaluate", "load_run"]

_HOMES = dict.fromkeys(("Run", "certify", "evaluate", "load_run"), "bench.api") | {"UserError": "bench.core.types"}


def __getattr__(name: str) -> Any:
    # Lazy: `import bench` must not cost an import of torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
