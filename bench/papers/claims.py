"""A paper's claims about robustness, each judged by one rule under PGD and under the worst attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.papers.systems import System
from bench.report import significance
from bench.report.measures import Outcome
from bench.report.model_runs import Dossier, Judged, Threat, robust, worst
from bench.report.significance import Difference

NOT_RUN = "not run"
_NEAR = 0.01

Side = tuple[str, tuple[str, ...]]
"""A defense and its variant on any data set."""


@dataclass(frozen=True)
class ModelUnderThreat:
    """A model under one threat: which row of the paper's tables it is, and what is stored about it."""

    dossier: Dossier
    threat: Threat
    system: System

    @property
    def is_own(self) -> bool:
        """Whether the threat is the model's own (`Dossier.is_own`)."""
        return self.dossier.is_own(self.threat)

    @property
    def pgd(self) -> Outcome | None:
        """PGD's outcome."""
        judged = self.dossier.pgd(self.threat)
        return judged.outcome if judged else None

    @property
    def worst(self) -> Outcome | None:
        """The worst outcome, if more than PGD was run."""
        return _worst(self.dossier.under(self.threat))

    def beside(self, other: ModelUnderThreat) -> Outcome | None:
        """The worst outcome over the attacks that another model met too and this one's own adaptive ones.

        So a model does not lose for having been attacked more.
        """
        met = {_kind(judged) for judged in other.dossier.under(other.threat)}
        return _worst(self.dossier.under(self.threat, lambda judged: judged.adaptive or _kind(judged) in met))


@dataclass(frozen=True)
class Claim:
    """The defense `better` is more robust than the defense `other`, on one data set."""

    text: str
    better: Side
    other: Side


@dataclass(frozen=True)
class ClaimResult:
    """What became of a claim: what was published, what the same attack and the worst one say of ours, the verdict."""

    data: str
    claim: str
    published: str
    same: str
    worst: str
    verdict: str
    models: str = ""


def side(defense: str, *variant: str) -> Side:
    """One side of a claim."""
    return defense, variant


def under_threats(dossier: Dossier, system: System) -> list[ModelUnderThreat]:
    """A model under every threat for which PGD was run."""
    return [ModelUnderThreat(dossier, threat, system) for threat in dossier.threats if dossier.pgd(threat) is not None]


def compared(
    claim: Claim, data: str, shown: Sequence[ModelUnderThreat], published: Mapping[System, float]
) -> ClaimResult:
    """Judge a claim that one system is more robust than another: models of one architecture under one threat."""
    printed = [published.get(System(data, *side)) for side in (claim.better, claim.other)]
    said = f"{100 * (printed[0] - printed[1]):+.2f}" if printed[0] is not None and printed[1] is not None else "–"
    pair = _pair(claim, data, shown)
    if pair is None:
        return ClaimResult(data, claim.text, said, NOT_RUN, NOT_RUN, NOT_RUN)
    plain = difference(pair[0].pgd, pair[1].pgd)
    full = difference(pair[0].beside(pair[1]), pair[1].beside(pair[0]))
    counts = dict.fromkeys(str(gap.n) for gap in (plain, full) if gap is not None)
    models = f"`{pair[0].dossier.model}`, `{pair[1].dossier.model}`, n = {' and '.join(counts)}"
    return ClaimResult(data, claim.text, said, written(plain), written(full), comparison_verdict(plain, full), models)


def comparison_verdict(plain: Difference | None, full: Difference | None) -> str:
    """The rule for a claimed gain, from the paired differences under PGD and under the worst attack.

    A gain counts where chance alone is unlikely. One that PGD shows and the worst attack does not, does not survive;
    one whose limits under the worst attack lie below PGD's survives in part.
    """
    if plain is None or full is None or not plain.n or not full.n:
        return NOT_RUN
    if full.is_gain:
        part = plain.low > full.high
        return f"survives in part, {points(full.value)} of {points(plain.value)}" if part else "survives"
    if full.is_loss:
        return "does not survive, reversed" if plain.is_gain else "reversed"
    return "does not survive" if plain.is_gain else "not shown, by PGD either"


def level(model: ModelUnderThreat, published: float, attack: str, same: Outcome | None) -> ClaimResult:
    """Judge a printed accuracy under `attack`, by what the same attack left of ours."""
    text = f"{model.dossier.model} under {attack}"
    verdict = level_verdict(published, same, model.worst)
    return ClaimResult(model.system.data, text, f"{100 * published:.2f}", percent(same), percent(model.worst), verdict)


def level_verdict(published: float, same: Outcome | None, full: Outcome | None) -> str:
    """The rule for a printed accuracy, from ours under the same attack and under the worst one.

    Reproduced: the upper limit of ours comes within a point of it. It survives if that of the worst attack does too.
    """
    if same is None:
        return NOT_RUN
    reached = [outcome is not None and outcome.numbers()["ci_high"] >= published - _NEAR for outcome in (same, full)]
    if not reached[0]:
        return f"not reproduced, {points(same.numbers()['robust_accuracy'] - published)}"
    if full is None:
        return f"reproduced; worst {NOT_RUN}"
    if reached[1]:
        return "survives"
    return f"reproduced, does not survive, {points(full.numbers()['robust_accuracy'] - published)}"


def difference(a: Outcome | None, b: Outcome | None) -> Difference | None:
    """Robust accuracy of a minus that of b on the images that both have."""
    if a is None or b is None:
        return None
    left, right = robust(a).align(robust(b), join="inner")
    return significance.paired(int((left & ~right).sum()), int((~left & right).sum()), len(left))


def points(value: float) -> str:
    """A difference of fractions in percentage points, signed."""
    return f"{100 * value:+.1f} points"


def written(gap: Difference | None) -> str:
    """A difference with its limits and p-value."""
    if gap is None or not gap.n:
        return NOT_RUN
    p = "p < 0.0001" if gap.p_value < 1e-4 else f"p = {gap.p_value:.2g}"
    return f"{100 * gap.value:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}, {p})"


def percent(outcome: Outcome | None) -> str:
    """Robust accuracy in percent with its Wilson limits."""
    if outcome is None or not len(outcome.images):
        return NOT_RUN
    numbers = outcome.numbers()
    middle, low, high = (f"{100 * numbers[key]:.1f}" for key in ("robust_accuracy", "ci_low", "ci_high"))
    return f"{middle} ({low}–{high})"


def _pair(
    claim: Claim, data: str, shown: Sequence[ModelUnderThreat]
) -> tuple[ModelUnderThreat, ModelUnderThreat] | None:
    """The two models of a claim: of one architecture, preferably under the same PGD, on the most images."""
    here = [model for model in shown if model.system.data == data]
    pairs = [
        (a, b)
        for a in here
        for b in here
        if (a.system[1:], b.system[1:]) == (claim.better, claim.other) and a.threat == b.threat and _alike(a, b)
    ]
    return max(pairs, key=_shared, default=None)


def _alike(a: ModelUnderThreat, b: ModelUnderThreat) -> bool:
    left, right = a.dossier.record, b.dossier.record
    return (left.arch, left.split, left.data_sha256) == (right.arch, right.split, right.data_sha256)


def _shared(pair: tuple[ModelUnderThreat, ModelUnderThreat]) -> tuple[bool, int]:
    """Whether PGD was the same on both sides, and how many images the worst of each is over."""
    plain = [model.pgd.attack for model in pair if model.pgd]
    return len(set(plain)) == 1, sum(len(model.worst.images) for model in pair if model.worst)


def _worst(attacks: Sequence[Judged]) -> Outcome | None:
    return worst(attacks) if any(not judged.is_pgd for judged in attacks) else None


def _kind(attack: Judged) -> str:
    """What makes two attacks the same: how they are written, but for the model that examples are carried over from."""
    return "transfer" if attack.name == "transfer" else attack.outcome.attack
