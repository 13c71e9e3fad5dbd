"""Commands run in processes of their own that need not import torch again: each is forked from a warm server.

A page of documentation has dozens of short commands, and the imports of each would cost more than what it does.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shlex
import sys
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["bench.cli.workflows", "bench.api", "matplotlib.pyplot", "sklearn.datasets"])
_SHELL = set("|&;<>$`*?~!")


def is_plain(command: str) -> bool:
    """Whether a command is `bench ...` or `python ...` with nothing for a shell to do."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return bool(words) and words[0] in ("bench", "python") and not any(set(word) <= _SHELL for word in words)


def run(command: str, home: Path) -> tuple[int, str]:
    """Run a plain command in a folder; its exit code, and what it wrote to stdout and stderr together."""
    written = home / ".output"
    process = _CONTEXT.Process(target=_child, args=(shlex.split(command), str(home), str(written), dict(os.environ)))
    process.start()
    process.join()
    text = written.read_text(encoding="utf-8") if written.exists() else ""
    written.unlink(missing_ok=True)
    return process.exitcode or 0, text


def _child(words: list[str], home: str, written: str, environment: dict[str, str]) -> None:
    """In the forked process: what the shell and the interpreter would do for this command."""
    os.chdir(home)
    os.environ.update(environment)  # the server's is that of the moment it was started
    # Ahead of what the tests themselves import: `python file.py` finds modules beside the file first.
    sys.path.insert(0, home)
    file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import torch

    torch.set_num_threads(1)
    try:
        _call(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _call(words: list[str]) -> None:
    if words[0] == "bench":
        from bench.cli.main import entry

        sys.argv = words
        entry()
    elif words[1] == "-m":
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
