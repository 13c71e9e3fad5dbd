"""The door of a command line: every fault is one line on stderr and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import click

from bench.core.files import one_line
from bench.core.terminal import PrintableStream, announce
from bench.core.text import printable, shortened
from bench.core.types import UserError

_FAULT, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 141
_LONGEST = 2000
_PACKAGES = Path(__file__).parents[2]


def enter(command: click.Command, program: str) -> NoReturn:
    """Run a command line and exit: 0, what the command returned, or the status of a fault.

    Args:
        command: the command line's root.
        program: its name, which stands before every fault.
    """
    if isinstance(sys.stdout, PrintableStream):
        raise UserError("a command line was called from inside another: name a function that returns a model")
    if sys.stderr is None:  # closed by who called: what is written next must not reach another file under its number
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    out = sys.stdout
    announce.cache_clear()
    try:
        if out is None:
            raise UserError("standard output is closed: send it to a file, or to /dev/null")
        sys.stdout = PrintableStream(out)
        code = command.main(standalone_mode=False)
        out.flush()
    except BaseException as fault:
        # Click puts another stream there, and exits.
        if isinstance(fault, BrokenPipeError) or (out and not isinstance(sys.stdout, PrintableStream)):
            # Nobody reads on, as in `| head`; what is still buffered must not fail again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            sys.exit(_PIPE_CLOSED)
        _leave(fault, program)
    finally:
        sys.stdout = out
    sys.exit(code if isinstance(code, int) else 0)


def _leave(fault: BaseException, program: str) -> NoReturn:
    """Say what went wrong, in one line, and exit."""
    text, status = one_line(fault, _LONGEST), _FAULT
    if isinstance(fault, click.exceptions.NoArgsIsHelpError):
        click.echo(fault.ctx.get_help(), err=True)
        sys.exit(_FAULT)
    if isinstance(fault, click.Abort | KeyboardInterrupt):
        text, status = "interrupted: what was written stays, and --resume continues it", _INTERRUPTED
    elif isinstance(fault, UserError):
        status = fault.status
    elif isinstance(fault, click.ClickException):
        text = " ".join(fault.format_message().split())
    elif isinstance(fault, SystemExit):
        text = "a file or module that was named asked Python to exit: name one that does not"
    elif isinstance(fault, MemoryError):
        text = "the memory is full: use fewer or smaller images, a smaller model, or a smaller --batch-size"
    elif isinstance(fault, OSError) and fault.strerror:
        place = f"{fault.filename}: " if fault.filename else ""
        text = f"{place}{fault.strerror}: check the path, its permissions and the space on the disk"
    else:
        if os.environ.get("BENCH_TRACEBACK"):
            traceback.print_exception(fault)
        remedy = "BENCH_TRACEBACK=1 shows more"
        text = (
            f"internal error, please report it: {type(fault).__name__}: {text}{_place(fault.__traceback__)} ({remedy})"
        )
    click.echo(f"{program}: {printable(shortened(text), sys.stderr.encoding)}", err=True)
    sys.exit(status)


def _place(trace: TracebackType | None) -> str:
    """The last line of this program that a fault passed through."""
    ours = [frame for frame in traceback.extract_tb(trace) if Path(frame.filename).is_relative_to(_PACKAGES)]
    return f" at {Path(ours[-1].filename).relative_to(_PACKAGES)}:{ours[-1].lineno}" if ours else ""
