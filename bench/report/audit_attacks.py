"""Signs that lie in the attacks: broken, unfinished, or weaker than something that should be weaker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median

import pandas as pd

from bench.core.types import NOT_FINITE
from bench.report import measures
from bench.report.evidence import CROSS_ENTROPY, NOISE, ONE_STEP, Case, Tried
from bench.report.significance import mcnemar
from bench.report.signs import Grade, Sign, Step
from bench.store import runs, ways

_CHANCE = 0.01
_GAP, _SOME, _MANY, _FEW = 0.1, 0.05, 0.2, 3
_UNBOUNDED = 0.01
_RISING = 0.15
"""On sound nets 40 steps of PGD bring 0.00 to 0.09 of the rise in the last quarter, 10 steps 0.11, 3 steps 0.3."""


def rows(case: Case) -> Iterator[Sign]:
    """Rows that are missing, or that say nothing of robustness."""
    for run in case.runs:
        if lost := runs.missing(run):
            yield Sign("fault", "unfinished", f"{lost} of the run's rows are not made yet", "continue it with --resume")
        for attack, count in measures.unlawful(run).items():
            seen = f"{attack} proposed {count} images that are not finite, outside [0, 1] or beyond eps"
            yield Sign("fault", "unlawful", seen, "repair the attack: they count as failed")
    yield from _not_made(case)
    yield from _not_finite(case)


def _not_made(case: Case) -> Iterator[Sign]:
    """Attacks that the model has no gradient for: their rows say nothing."""
    for run in case.runs:
        for attack, reason in run.record.failed.items():
            step = None if case.ran(lambda tried: tried.needs_no_gradient) else Step("square")
            remedy = "its rows say nothing: quote the others" + (", and run square" if step else "")
            yield Sign("attack too weak", "not made", f"{attack} could not be made ({reason})", remedy, step)


def _not_finite(case: Case) -> Iterator[Sign]:
    count = sum(_flagged(run) for run in case.runs)
    if not count:
        return
    clean = sum(int((run.verdicts["clean_pred"] == NOT_FINITE).sum()) for run in case.runs)
    seen = f"{count} rows met NaN or infinity: no evidence of robustness"
    if clean:
        yield Sign("fault", "not finite", seen, "the logits of clean images are not finite: repair the model")
    elif not case.ran(lambda tried: tried.needs_no_gradient):
        remedy = "run square, which needs no gradient, and look at where the gradient stops being finite"
        yield Sign("fault", "not finite", seen, remedy, Step("square"))
    else:
        yield Sign("fault", "not finite", seen, "look at where logits or gradients stop being finite")


def _flagged(run: runs.Run) -> int:
    """The rows that met NaN or infinity, but for those of attacks that were not made."""
    if not run.record.failed:
        return measures.flagged(run)
    return measures.flagged(replace(run, verdicts=run.verdicts[~run.verdicts["attack"].isin(run.record.failed)]))


def gradient_free(case: Case) -> Iterator[Sign]:
    """Images that searches by values alone break and gradients do not: AutoAttack's own flag, whoever ran."""
    eps = case.eps
    if eps is None or not case.ran(_follows_gradients) or (case.is_random and not case.is_averaged):
        return
    before = case.right & ~case.broken_by(eps, _follows_gradients)
    only = before & case.broken_by(eps, lambda tried: tried.needs_no_gradient)
    count, of = int(only.sum()), int(before.sum())
    if count < max(_FEW, _SOME * len(only)):
        return
    names = ", ".join(sorted({tried.label for tried in case.at(eps) if tried.needs_no_gradient}))
    seen = f"{names} broke {count} of the {of} images that every gradient attack left"
    grade: Grade = "evidence of masking" if count >= _MANY * of else "attack too weak"
    if case.met("apgd_t") or not case.is_doubtful:
        yield Sign(grade, "gradient-free is stronger", seen, "quote the worst row alone")
        return
    remedy = "quote the worst row alone, and run apgd_ce and apgd_t, which take larger steps"
    yield Sign(grade, "gradient-free is stronger", seen, remedy, Step("apgd_ce,apgd_t"))


def _follows_gradients(tried: Tried) -> bool:
    return tried.is_iterated


def _is_of(names: frozenset[str], tried: Tried) -> bool:
    return tried.name in names


def beaten(case: Case) -> Iterator[Sign]:
    """Noise or a single step that break what the iterated attacks together do not."""
    for eps in case.budgets:
        if not any(tried.is_iterated for tried in case.at(eps)):
            continue
        strong = case.broken_by(eps, lambda tried: tried.is_iterated)
        for kinds, name in ((NOISE, "beaten by noise"), (ONE_STEP, "beaten by one step")):
            weak = case.broken_by(eps, partial(_is_of, kinds))
            only_weak, only_strong = int((weak & ~strong).sum()), int((strong & ~weak).sum())
            if only_weak > only_strong and mcnemar(only_strong, only_weak) < _CHANCE:
                p = mcnemar(only_strong, only_weak)
                alone = f"it breaks {only_weak} images that no iterated attack breaks, they {only_strong} others"
                seen = f"at {eps:.4g} {alone} (p {p:.1g})"
                remedy = "the gradients mislead, or the steps do not fit: run square"
                step = None if case.ran(lambda tried: tried.needs_no_gradient) else Step("square")
                yield Sign("evidence of masking", name, seen, remedy, step)
                return


def _climbs_another_loss(tried: Tried) -> bool:
    return tried.is_iterated and tried.name not in CROSS_ENTROPY


def cross_entropy_alone(case: Case) -> Iterator[Sign]:
    """Attacks on cross-entropy that leave many more than the others: not to be quoted alone."""
    eps = case.eps
    entropy = {tried.name for tried in case.at(eps) if tried.climbs_cross_entropy}
    if not entropy or not any(map(_climbs_another_loss, case.at(eps))) or case.is_random:
        return  # on a random model each further attack is another draw
    # A stage of an ensemble may have been given what others left, and is not to be blamed for the rest.
    given = case.given_to(eps, lambda tried: tried.climbs_cross_entropy)
    right = case.right & given
    first = case.broken_by(eps, lambda tried: tried.climbs_cross_entropy) & given
    second = case.broken_by(eps, _climbs_another_loss) & given
    more, fewer = int((second & ~first).sum()), int((first & ~second).sum())
    p = mcnemar(more, fewer)
    if more - fewer <= _GAP * len(first) or p >= _CHANCE:
        return
    left = [float((right & ~broken).sum() / given.sum()) for broken in (first, second)]
    names = ", ".join(sorted(entropy))
    where = f"at {case.record.norm} {eps:.4g}"
    seen = f"{where} {names} leaves {left[0]:.2%}, attacks on other losses {left[1]:.2%} (p {p:.1g})"
    if case.record.zero_gradients:
        seen += f", and its gradient is exactly zero on {case.record.zero_gradients:.1%} of the clean images"
    yield Sign("evidence of masking", "cross-entropy alone", seen, "it says too much: quote the worst row")


def one_attack_short(case: Case) -> Iterator[Sign]:
    """PGD far behind a stronger attack on the same loss."""
    eps = case.eps
    plain = case.broken_by(eps, lambda tried: tried.name == "pgd")
    better = case.broken_by(eps, lambda tried: tried.name == "apgd_ce")
    if case.met("pgd") and case.met("apgd_ce"):
        more, fewer = int((better & ~plain).sum()), int((plain & ~better).sum())
        if more - fewer > _GAP * len(plain) and mcnemar(more, fewer) < _CHANCE:
            seen = f"apgd_ce breaks {more} images that pgd leaves, pgd {fewer} that apgd_ce leaves"
            yield Sign("attack too weak", "pgd", seen, "its steps do not fit this model: quote the worst row")


def unfinished_search(case: Case) -> Iterator[Sign]:
    """Attacks whose margin still rose when they ended: more steps would go further."""
    eps = case.eps
    share = {tried.label: _still_rising(case, tried) for tried in case.at(eps) if tried.is_iterated}
    rising_ones = {label: value for label, value in share.items() if value is not None and value >= _RISING}
    ended = any(value is not None and value < _RISING for value in share.values())
    if ended or not case.is_doubtful:
        return  # another attack went all the way, or there is nothing left to find
    for label, value in rising_ones.items():
        seen = f"{label} made {value:.0%} of its way in the last quarter of its passes, on images that it left"
        remedy = "it had too few steps, or too short ones"
        yield Sign("attack too weak", "unfinished search", seen, remedy, Step("pgd(steps=200),margin(steps=200)"))


def _still_rising(case: Case, tried: Tried) -> float | None:
    """The median share of the rise of the margin that the last quarter brought, over images that an attack left."""
    shares = []
    for run in case.runs:
        way = searches_of(run)
        if way is None:
            continue
        left = tried.broken.index[~tried.broken]
        mine = way[(way["attack"] == tried.label) & (way["eps"] == tried.eps) & way["index"].isin(left)]
        risen = (mine["end"] - mine["start"]).where(lambda rise: rise > 0)
        shares += ((mine["end"] - mine["three_quarters"]) / risen).dropna().tolist()
    return median(shares) if len(shares) >= _FEW else None


def searches_of(run: runs.Run) -> pd.DataFrame | None:
    """How the searches of a run went, if it is known."""
    return ways.load(run.directory) if run.searches is None else run.searches


def unbounded(case: Case) -> Iterator[Sign]:
    """Minimal attacks that find nothing at any size."""
    for run in case.runs:
        minimal = [attack for attack in run.record.attacks if attack.minimal]
        found = {attack.spec: _missed(run, attack.spec) for attack in minimal}
        for attack in minimal:
            missed = found[attack.spec]
            if len(missed) <= max(1, _UNBOUNDED * len(case.right)):
                continue
            by_others = [set(found[other.spec]) for other in minimal if other.norm == attack.norm and other != attack]
            everywhere = set(missed).intersection(*by_others) if by_others else set(missed)
            seen = f"{attack.spec} finds nothing at any size for {len(missed)} of {int(case.right.sum())} images"
            if by_others and len(everywhere) <= _UNBOUNDED * len(case.right):
                yield Sign("attack too weak", "unbounded failure", seen, "quote the other minimal attacks")
            else:
                step = None if by_others else Step("minimal")
                remedy = "an unbounded attack must reach all of them: run minimal" if step else "suspect its gradients"
                yield Sign("attack too weak", "unbounded failure", seen, remedy, step)


def _missed(run: runs.Run, attack: str) -> list[int]:
    mine = run.verdicts[run.verdicts["attack"] == attack]
    right = mine["label"] == mine["clean_pred"]
    missed = right & ~mine["broken"] & (mine["adv_pred"] != NOT_FINITE)
    return [int(index) for index in mine.loc[missed, "index"]]


def rising(case: Case) -> Iterator[Sign]:
    """Attacks that break more at a smaller eps."""
    labels = dict.fromkeys(tried.label for tried in case.tried if tried.norm == case.record.norm)
    for label in labels:
        by_eps = {tried.eps: tried.broken for tried in case.tried if tried.label == label and tried.eps is not None}
        ascending = sorted(by_eps)
        lost = [(small, large) for small, large in pairwise(ascending) if _fewer(by_eps[small], by_eps[large])]
        if lost:
            seen = f"{label} breaks fewer images at {lost[0][1]:.4g} than at {lost[0][0]:.4g}"
            remedy = "a larger ball holds the smaller: more steps or restarts at the larger eps"
            yield Sign("attack too weak", "not monotone", seen, remedy)


def _fewer(small: pd.Series[bool], large: pd.Series[bool]) -> bool:
    lost, gained = int((small & ~large).sum()), int((large & ~small).sum())
    return lost > gained and mcnemar(lost, gained) < _CHANCE


def large_eps(case: Case) -> Iterator[Sign]:
    """Images that stand where every image can become the same grey."""
    eps = case.eps
    if case.record.norm == "linf" and eps is not None and eps >= 0.5 and case.left(eps).mean() > 0.2:
        seen = f"{case.left(eps).mean():.1%} is left at linf {eps:.3g}, where any image can be grey"
        step = None if case.ran(lambda tried: tried.needs_no_gradient) else Step("square")
        yield Sign(
            "evidence of masking", "survives anything", seen, "the attacks are broken: try without gradients", step
        )


LOOKS: tuple[Callable[[Case], Iterator[Sign]], ...] = (
    rows,
    gradient_free,
    beaten,
    cross_entropy_alone,
    one_attack_short,
    unfinished_search,
    unbounded,
    rising,
    large_eps,
)
