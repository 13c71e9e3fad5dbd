"""What a request says of random models and of gradients, as the form in which attacks meet the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.core.types import UserError
from bench.evaluation.checks import OF_GRADIENTS, Failure
from bench.evaluation.judge import DRAWS
from bench.evaluation.request import Request
from bench.models import backward
from bench.models.search_form import MOST_DRAWS, SearchForm

_RANDOM = "deterministic"
"""The check that a random model fails."""


def answered(request: Request) -> set[str]:
    """The checks that a request answers: it averages over randomness, or brings a gradient."""
    averaged = request.eot > 1 or request.draws is not None
    return {*([_RANDOM] if averaged else []), *(OF_GRADIENTS if request.backward is not None else [])}


def asked(request: Request, failures: Sequence[Failure], device: str) -> tuple[int, SearchForm]:
    """How many passes settle the class of an image, and the form of the model that attacks meet.

    One pass, unless the model is random, by the checks that it fails, or the user says that it is.

    Raises:
        UserError: numbers of draws are out of bounds, or there is no such stand-in.
    """
    random = any(failure.name == _RANDOM for failure in failures)
    draws = (DRAWS if random or request.eot > 1 else 1) if request.draws is None else request.draws
    if not isinstance(draws, int) or not 1 + random <= draws <= MOST_DRAWS:
        raise UserError(f"{draws} draws do not settle a prediction of this model: give --draws 2 to {MOST_DRAWS}")
    return draws, SearchForm(request.eot, draws > 1, backward.named(request.backward, device))


def recorded(form: SearchForm) -> dict[str, Any]:
    """The form as `run.json` holds it."""
    said: dict[str, Any] = {"eot": form.eot}
    if form.backward is not None:
        said |= {"backward": form.backward.name, "backward_sha256": form.backward.sha256}
    return said
