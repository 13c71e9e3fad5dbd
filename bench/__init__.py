"""bench: a robustness evaluation harness for image classifiers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import Run, evaluate, load_run

__all__ = ["Run", "evaluate", "load_run"]


def __getattr__(name: str) -> Any:
    # Lazy: `import bench` must not cost an import of torch.
    if name in __all__:
        return getattr(import_module("bench.api"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
