"""What a stored file may make this program run: a record is data, so code that it names is run only where asked."""

from __future__ import annotations

from bench.core.text import shown
from bench.core.types import UserError
from bench.models.factory import is_factory
from bench.models.sources.source import is_code


def model_named(recorded: str, given: str | None, trust: bool, source: str) -> str:
    """The model to load for a stored file: the one that the user gives, or the one that the file names.

    Args:
        recorded: the model that the file names.
        given: the model that the user names, if any.
        trust: whether the user has said that the file may name code.
        source: the file, as errors name it.

    Raises:
        UserError: the file names code, and the user has said nothing about it.
    """
    if given is None and (is_factory(recorded) or is_code(recorded)) and not trust:
        raise UserError(
            f"{source} names the model {shown(recorded)}, which is code: give --model, or --trust to run it"
        )
    return given or recorded


def refuse_code(attacks: str, source: str) -> None:
    """Refuse an attack list of a stored file that names a file or module to run, as an attack or as a model in one.

    Raises:
        UserError: it does.
    """
    if ".py:" in attacks or _names_a_factory(attacks):
        raise UserError(f"{source} names the attacks {shown(attacks)}, which hold code: give --trust to run it")


def _names_a_factory(attacks: str) -> bool:
    """Whether a text in quotes in a spec names a factory, as `transfer(model='file.py:f')` does."""
    return any(is_factory(text) or is_code(text) for quote in "'\"" for text in attacks.split(quote)[1::2])
