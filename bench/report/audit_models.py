"""Signs that lie in the model: chance, gradients that lead nowhere, a wrong set-up."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.report import measures
from bench.report.evidence import Case
from bench.report.significance import wilson
from bench.report.signs import Sign, Step

_SHARE, _FEWEST, _ROUGH = 0.05, 2, 0.5
_ENOUGH = 20
_DRAWS = 20
_OTHER_LOSSES = tuple(
    "margin multi_margin normalised_ce cosine_margin apgd_dlr apgd_t fab fab_t cw fmn ddn".split()  # noqa: SIM905
)
"""Attacks that do not climb cross-entropy, which may be flat."""
_NOTES = {
    "state": ("the model's answers depend on what it was asked before", "make forward a function of its images alone"),
    "batch": (
        "an image's logits depend on the batch it is in",
        "take statistics over training data, not over the batch",
    ),
    "extra class": (
        "the model has more classes than the data",
        "say what the spare class means: an image that it takes counts as broken",
    ),
    "finite": ("clean logits hold NaN or infinity", "repair the model: no attack can be judged"),
}


def set_up(case: Case) -> Iterator[Sign]:
    """What is wrong with the model before anything is attacked."""
    record = case.record
    for name in (*record.forced, *record.notes):
        if name in _NOTES:
            seen, remedy = _NOTES[name]
            yield Sign("fault", f"check {name!r}", seen, remedy)
    yield from _clean_accuracy(case)
    probabilities = "softmax" in record.notes and case.is_doubtful
    if probabilities:
        step = None if case.met("margin") else Step("margin")
        remedy = "return logits" + (", and run margin" if step else "")
        seen = "the model returns probabilities, on which cross-entropy and DLR flatten out"
        yield Sign("attack too weak", "probabilities", seen, remedy, step)


def _clean_accuracy(case: Case) -> Iterator[Sign]:
    n, classes = len(case.right), case.record.classes
    clean, (_, high) = float(case.right.mean()), wilson(int(case.right.sum()), n)
    if classes and n >= _ENOUGH and high < (floor := low_accuracy(classes)):
        seen = f"{clean:.1%} of {n} images, below {floor:.0%}, which is little above chance for {classes} classes"
        remedy = "check the normalisation, the order of channels and classes, and the data set"
        yield Sign("fault", "clean accuracy", seen, remedy)


def low_accuracy(classes: int) -> float:
    """A clean accuracy that hardly any trained model falls below: three times chance, less for few classes."""
    chance = 1 / classes
    return chance + min(2 * chance, 0.25 * (1 - chance))


def chance(case: Case) -> Iterator[Sign]:
    """A model that answers differently each time, attacked as if it did not."""
    if not case.is_random or case.is_averaged:
        return
    left = case.left(case.eps)
    found = f"searches that look at one draw left {left.mean():.1%}"
    seen = f"the model answers differently each time (check 'deterministic'); {found}"
    remedy = f"average over its randomness: --eot {_DRAWS}, or autoattack(version='rand')"
    if case.is_doubtful:
        yield Sign("evidence of masking", "chance", seen, remedy, Step("pgd,margin", eot=_DRAWS))
    else:
        yield Sign("attack too weak", "chance", seen, remedy)


def claims(case: Case) -> Iterator[Sign]:
    """Finds of searches that the judge denied."""
    if not case.is_random or case.is_averaged:
        return
    for run in case.runs:
        for attack, (claimed, confirmed) in measures.claims(run).items():
            if claimed - confirmed > max(_FEWEST, 0.2 * claimed):
                seen = f"{attack} claims {claimed} finds, of which repeated draws confirm {confirmed}"
                remedy = f"its searches stop at a lucky draw: --eot {_DRAWS}"
                yield Sign("attack too weak", "unconfirmed", seen, remedy, Step("pgd,margin", eot=_DRAWS))


def gradients(case: Case) -> Iterator[Sign]:
    """Gradients that are zero, wrong or rough where images are left, and the attack that does without them."""
    left = case.left(case.eps)
    if not case.is_doubtful:
        return
    margin, entropy, rough = (_share(case, loss, left) for loss in ("margin", "cross_entropy", "rough"))
    if margin is not None:
        yield _wrong(case, "misleading gradient", f"a step along the margin's gradient does not help {margin}")
    elif rough is not None and rough.share >= _ROUGH:
        yield _wrong(case, "rough gradient", f"the mean gradient of points near by leads twice as far {rough}")
    elif entropy is not None and not case.met(*_OTHER_LOSSES):
        seen = f"a step along cross-entropy's gradient does not help {entropy}, one along the margin's does"
        yield Sign("evidence of masking", "flat cross-entropy", seen, "run margin", Step("margin"))


class _Share:
    """A share of the images left, and how it is told."""

    def __init__(self, count: int, of: int) -> None:
        self.share, self._text = count / of, f"on {count / of:.0%} of {of} images that are left"

    def __str__(self) -> str:
        return self._text


def _share(case: Case, loss: str, left: pd.Series[bool]) -> _Share | None:
    """On what share of the images left a loss's gradient fails; None where on too few to tell."""
    fails = case.known_letters(loss)
    if fails.empty and loss == "cross_entropy" and case.record.zero_gradients:
        count = round(case.record.zero_gradients * len(case.right))  # a run older than the other measures
        return _Share(count, len(case.right)) if count >= _FEWEST else None
    fails = fails[left.reindex(fails.index, fill_value=False)]
    count = int(fails.sum())
    return _Share(count, len(fails)) if count >= max(_FEWEST, _SHARE * len(fails)) else None


def _wrong(case: Case, name: str, seen: str) -> Sign:
    """The next thing to try where gradients fail: values alone, then another backward pass."""
    eot = _DRAWS if case.is_averaged or case.is_random else 1
    passes = {run.record.backward for run in case.runs}

    if not case.ran(lambda tried: tried.needs_no_gradient and tried.norm == case.record.norm):
        free = "square" if case.record.norm in ("linf", "l2") else "noise(draws=1000)"
        return Sign("evidence of masking", name, seen, f"run {free}, which needs no gradient", Step(free, eot))
    if "identity" not in passes:
        remedy = "replace the backward pass of what hides it: --backward identity"
        return Sign("evidence of masking", name, seen, remedy, Step("pgd,margin", eot, "identity"))
    if not case.met("hsj") and case.record.norm in ("linf", "l2"):
        remedy = "run hsj, which needs predicted classes alone"
        return Sign("evidence of masking", name, seen, remedy, Step("hsj", eot))
    remedy = "nothing is left to try unasked: give a stand-in of your own, --backward file.py:surrogate"
    return Sign("evidence of masking", name, seen, remedy)
