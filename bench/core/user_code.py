"""A user's own Python file, run as a module."""

from __future__ import annotations

import hashlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.core.types import UserError


def module_of(path: Path) -> ModuleType:
    """Run a user's Python file as a module of its own.

    Raises:
        UserError: it is not a Python file; whatever the file itself raises.
    """
    # A name of its own for each path: two files called model.py may be in use at once.
    name = f"_bench_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file: give one that ends in .py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
