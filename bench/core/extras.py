"""Libraries that only some of what users name needs: imported when it is named, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bench.core.files import one_line
from bench.core.types import UserError

DISTRIBUTION = "robust-verdicts"
"""What the package index calls this package; records and users call it bench."""


def extra(name: str) -> str:
    """The command that installs one of the package's extras."""
    return f'pip install "{DISTRIBUTION}[{name}]"'


def imported(title: str, module: str, remedy: str) -> Any:
    """A library's module.

    Args:
        title: what it is wanted for, as errors say it.
        module: its dotted name.
        remedy: what installs it.

    Raises:
        UserError: it, or something that it needs, is missing or does not import.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        lacking = (error.name or module).partition(".")[0]
        if lacking == module.partition(".")[0]:
            raise UserError(f"{lacking} is not installed: {remedy}") from error
        raise UserError(f"{title} needs {lacking}, which is not installed: pip install {lacking}") from error
    except Exception as error:
        fault = f"{title} does not import ({type(error).__name__}: {one_line(error)})"
        raise UserError(f"{fault}: install versions that fit each other and your torch") from error
