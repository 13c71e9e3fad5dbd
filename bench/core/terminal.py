"""What is printed for people: it cannot command a terminal, nor fail to be spelled."""

from __future__ import annotations

import errno
import sys
from functools import cache
from typing import Any, TextIO

from bench.core.text import printable, shortened


@cache
def announce(text: str) -> None:
    """Say on stderr, once, what a user should know of a command that goes on."""
    if sys.stderr is not None:
        print(f"bench: {printable(shortened(text), sys.stderr.encoding)}", file=sys.stderr, flush=True)


class PrintableStream:
    """A text stream that escapes control characters, and spells in ASCII what the stream's encoding lacks."""

    encoding = "utf-8"  # for click, which would go round a stream that says ASCII
    errors = "strict"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; how many letters it has."""
        if not isinstance(text, str):  # as click asks whether bytes can be written
            raise TypeError(f"{type(text).__name__} is no text")
        if self._stream.closed:  # by a file that was named
            raise OSError(errno.EBADF, "standard output was closed")
        self._stream.write(printable(text, self._stream.encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
