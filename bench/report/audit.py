"""Signs that an attack, not the model, is what failed; each names the next thing to run.

After the checklist of Carlini et al. (2019) and the failures of Pintor et al. (2022), as far as stored verdicts tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from bench.core.types import NOT_FINITE
from bench.report import measures
from bench.report.significance import mcnemar
from bench.store import runs
from bench.store.runs import Run

_GAP = 0.02
_CHANCE = 0.01
_SINGLE_STEP = {"fgsm"}
_NOISE = {"noise"}


@dataclass(frozen=True)
class Sign:
    """Something seen, and what to do about it."""

    name: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}; {self.remedy}"


def _named(run: Run, attack: str) -> str:
    """The registered name behind a row's attack, which may carry arguments."""
    names = {stage.spec: stage.name for whole in run.record.attacks for stage in whole.stages}
    return (names | {whole.spec: whole.name for whole in run.record.attacks}).get(attack, attack)


def _single(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["attack"] != measures.WORST]


def _unfinished(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    lost = runs.missing(run)
    if lost:
        yield Sign("unfinished", f"{lost} of the run's rows are not made yet", "continue it with --resume")


def _flagged(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    count = measures.flagged(run)
    if count:
        yield Sign("not finite", f"{count} rows met NaN or infinity", "look at the model's logits before trusting them")


def _unlawful(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    for attack, count in measures.unlawful(run).items():
        yield Sign(
            "unlawful",
            f"{attack} proposed {count} images that break the rules",
            "repair the attack: they count as failed",
        )


def _forced(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    for name in run.record.forced:
        yield Sign("forced", f"the model fails the check {name!r}", "repair the model, or average over its randomness")


def _zero_gradients(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    share = run.record.zero_gradients
    if share:
        yield Sign(
            "zero gradients",
            f"the cross-entropy gradient is exactly zero on {share:.1%} of the clean images",
            "run margin and normalised_ce, which do not saturate, and a gradient-free attack",
        )


def _plain_fails(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    everything = measures.outcomes(run)
    single = [outcome for outcome in everything if outcome.attack != measures.WORST and outcome.eps is not None]
    for plain in [outcome for outcome in single if _named(run, outcome.attack) == "pgd"]:
        rivals = [outcome for outcome in single if (outcome.norm, outcome.eps) == (plain.norm, plain.eps)]
        best = max(rivals, key=lambda outcome: int(outcome.images["broken"].sum()))
        more = int((best.images["broken"] & ~plain.images["broken"]).sum())
        fewer = int((plain.images["broken"] & ~best.images["broken"]).sum())
        if more - fewer <= _GAP * len(plain.images) or mcnemar(more, fewer) >= _CHANCE:
            continue
        left = [outcome.numbers()["robust_accuracy"] for outcome in (plain, best)]
        yield Sign(
            "masking",
            f"at {plain.norm} {plain.eps:.4g} {plain.attack} leaves {left[0]:.2%}, {best.attack} {left[1]:.2%}",
            "do not quote pgd; quote the worst row, and run more restarts of the stronger attack",
        )


def _beaten_by(weak: set[str], name: str, remedy: str) -> Callable[[Run, pd.DataFrame], Iterator[Sign]]:
    def look(run: Run, table: pd.DataFrame) -> Iterator[Sign]:
        rows = _single(table).assign(name=[_named(run, attack) for attack in _single(table)["attack"]])
        for (norm, eps), group in rows.groupby(["norm", "eps"]):
            poor = group[group["name"].isin(weak)]["robust_accuracy"]
            strong = group[~group["name"].isin(_SINGLE_STEP | _NOISE)]
            for _, row in strong.iterrows():
                if not poor.empty and poor.min() < row["robust_accuracy"]:
                    seen = f"{row['attack']} leaves more than {'/'.join(sorted(weak))} at {norm} {eps:.4g}"
                    yield Sign(name, seen, remedy)

    return look


def _minimal_fails(run: Run, _table: pd.DataFrame) -> Iterator[Sign]:
    minimal = [attack.spec for attack in run.record.attacks if attack.minimal]
    rows = run.verdicts[run.verdicts["attack"].isin(minimal) & (run.verdicts["label"] == run.verdicts["clean_pred"])]
    for attack, mine in rows.groupby("attack"):
        missed = int((~mine["broken"] & (mine["adv_pred"] != NOT_FINITE)).sum())
        if missed:
            yield Sign(
                "unbounded failure",
                f"{attack} finds nothing at any size for {missed} of {len(mine)} images",
                "an unbounded attack must reach all of them: give it more steps, and suspect masking",
            )


def _rises(run: Run, table: pd.DataFrame) -> Iterator[Sign]:
    for (attack, norm), rows in _single(table).dropna(subset="eps").groupby(["attack", "norm"]):
        steps = rows.sort_values("eps")["robust_accuracy"].diff()
        if (steps > 0).any():
            yield Sign(
                "not monotone",
                f"robust accuracy under {attack} ({norm}) rises with eps in {int((steps > 0).sum())} places",
                "a larger ball holds the smaller: more steps or restarts at the larger eps",
            )


def _large_eps(run: Run, table: pd.DataFrame) -> Iterator[Sign]:
    rows = _single(table)
    for _, row in rows[(rows["norm"] == "linf") & (rows["eps"] >= 0.5)].iterrows():
        if row["robust_accuracy"] > 0.2:
            where = f"at linf {row['eps']:.3g}, where any image can be grey"
            seen = f"{row['attack']} leaves {row['robust_accuracy']:.1%} {where}"
            yield Sign("survives anything", seen, "the attack is broken: try another objective")


_LOOKS: tuple[Callable[[Run, pd.DataFrame], Iterator[Sign]], ...] = (
    _unfinished,
    _flagged,
    _unlawful,
    _forced,
    _zero_gradients,
    _plain_fails,
    _beaten_by(
        _NOISE, "beaten by noise", "its gradients mislead: run margin, normalised_ce and a gradient-free attack"
    ),
    _beaten_by(_SINGLE_STEP, "beaten by one step", "an iterated attack must not lose to one step: check its step size"),
    _minimal_fails,
    _rises,
    _large_eps,
)


def signs(run: Run) -> list[Sign]:
    """Everything suspicious about a run."""
    table = measures.summary(run)
    return [sign for look in _LOOKS for sign in look(run, table)]


def missing(run: Run) -> list[str]:
    """What a full evaluation holds and this run lacks."""
    attacks = run.record.attacks
    kinds = {
        "noise": any(attack.name == "noise" for attack in attacks),
        "adaptive": bool(run.record.adaptive),
        "a minimal attack such as ddn": any(attack.minimal for attack in attacks),
    }
    return [kind for kind, there in kinds.items() if not there]


def report(run: Run) -> str:
    """The signs, a line each, and what was not run."""
    lines = [str(sign) for sign in signs(run)] or ["no sign that an attack failed"]
    lacks = missing(run)
    if lacks:
        lines.append(f"not run: {', '.join(lacks)}")
    return "\n".join(lines)
