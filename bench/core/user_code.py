"""A user's own Python file, run as a module."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.core.files import sha256_of
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


def sources_of(path: Path) -> dict[str, str]:
    """The sha256 of a Python file and of every module that it imports from its own folder, by path in that folder.

    Read from the source, at any distance; nothing is run. What a file imports by another way than a statement, and data
    that it reads, is not seen.
    """
    folder, waiting, known = path.parent, [path], dict[str, str]()
    while waiting:
        file = waiting.pop()
        name = file.relative_to(folder).as_posix()
        if name in known:
            continue
        known[name] = sha256_of(file)
        waiting += [module for dotted in _imported(file, folder) for module in _files_of(dotted, folder)]
    return dict(sorted(known.items()))


def _imported(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """The modules that import statements of a file name, each in parts as from its folder."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    here = file.parent.relative_to(folder).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = here[: max(0, len(here) - node.level + 1)] if node.level else ()
            place = (*start, *(node.module.split(".") if node.module else ()))
            yield from (place, *((*place, alias.name) for alias in node.names))


def _files_of(dotted: tuple[str, ...], folder: Path) -> Iterator[Path]:
    """The files of a module in a folder: each package on the way to it, and its own."""
    for count in range(1, len(dotted) + 1):
        place = folder.joinpath(*dotted[:count])
        package, module = place / "__init__.py", place.with_name(f"{place.name}.py")
        yield from (file for file in (package, module) if file.is_file())
