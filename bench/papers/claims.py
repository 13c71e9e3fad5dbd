"""A paper's claims about robustness, each judged by one rule under PGD and under the worst attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.papers.systems import System, system
from bench.report import significance
from bench.report.measures import Outcome
from bench.report.model_runs import Dossier, Judged, Threat, robust, worst
from bench.report.significance import Difference

NOT_RUN = "not run"
_NEAR = 0.01


@dataclass(frozen=True)
class Exhibit:
    """A model under one threat: which row of the paper's tables it is, and what is stored about it."""

    dossier: Dossier
    threat: Threat
    row: System

    @property
    def is_own(self) -> bool:
        """Whether the threat is the model's own (`Dossier.is_own`)."""
        return self.dossier.is_own(self.threat)

    @property
    def pgd(self) -> Outcome | None:
        """PGD's outcome."""
        found = self.dossier.pgd(self.threat)
        return found.outcome if found else None

    @property
    def own(self) -> Outcome | None:
        """The outcome of the paper's adaptive attack: on MAT's loss, or on TRADES'."""
        name = {"MAT": "mat", "TRADES": "kl"}.get(self.row.defense, "")
        found = self.dossier.under(self.threat, lambda one: one.name == name)
        return found[0].outcome if found else None

    @property
    def worst(self) -> Outcome | None:
        """The worst outcome, if more than PGD was run."""
        return _worst(self.dossier.under(self.threat))

    def beside(self, other: Exhibit) -> Outcome | None:
        """The worst outcome over the attacks that another model met too and this one's own adaptive ones.

        So a model does not lose for having been attacked more.
        """
        met = {_kind(one) for one in other.dossier.under(other.threat)}
        return _worst(self.dossier.under(self.threat, lambda one: one.adaptive or _kind(one) in met))


@dataclass(frozen=True)
class Claim:
    """System `better` is more robust than system `other`; both are (defense, SO, BIBO)."""

    text: str
    better: tuple[str, str, str]
    other: tuple[str, str, str]


def row(defense: str) -> tuple[str, str, str]:
    """The system of a paper whose defenses have no SO or BIBO."""
    return defense, "-", "-"


@dataclass(frozen=True)
class Finding:
    """What became of a claim: what was published, what the same attack and the worst one say of ours, the verdict."""

    data: str
    claim: str
    published: str
    same: str
    worst: str
    verdict: str
    models: str = ""


def exhibits(found: Sequence[Dossier]) -> list[Exhibit]:
    """Every model under every threat for which PGD was run."""
    pairs = [(one, threat) for one in found for threat in one.threats]
    return [Exhibit(one, threat, system(one)) for one, threat in pairs if one.pgd(threat) is not None]


def compared(claim: Claim, data: str, shown: Sequence[Exhibit], published: Mapping[System, float]) -> Finding:
    """Judge a claim that one system is more robust than another: models of one architecture under one threat."""
    printed = [published.get(System(data, *row)) for row in (claim.better, claim.other)]
    said = f"{100 * (printed[0] - printed[1]):+.2f}" if printed[0] is not None and printed[1] is not None else "–"
    pair = _pair(claim, data, shown)
    if pair is None:
        return Finding(data, claim.text, said, NOT_RUN, NOT_RUN, NOT_RUN)
    plain = difference(pair[0].pgd, pair[1].pgd)
    full = difference(pair[0].beside(pair[1]), pair[1].beside(pair[0]))
    counts = dict.fromkeys(str(one.n) for one in (plain, full) if one is not None)
    models = f"`{pair[0].dossier.model}`, `{pair[1].dossier.model}`, n = {' and '.join(counts)}"
    return Finding(data, claim.text, said, written(plain), written(full), comparison_verdict(plain, full), models)


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


def level(one: Exhibit, published: float, attack: str, same: Outcome | None) -> Finding:
    """Judge a printed accuracy under `attack`, by what the same attack left of ours."""
    text = f"{one.dossier.model} under {attack}"
    verdict = level_verdict(published, same, one.worst)
    return Finding(one.row.data, text, f"{100 * published:.2f}", share(same), share(one.worst), verdict)


def level_verdict(published: float, same: Outcome | None, full: Outcome | None) -> str:
    """The rule for a printed accuracy, from ours under the same attack and under the worst one.

    Reproduced: the upper limit of ours comes within a point of it. It survives if that of the worst attack does too.
    """
    if same is None:
        return NOT_RUN
    reached = [one is not None and one.numbers()["ci_high"] >= published - _NEAR for one in (same, full)]
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


def written(found: Difference | None) -> str:
    """A difference with its limits and p-value."""
    if found is None or not found.n:
        return NOT_RUN
    p = "p < 0.0001" if found.p_value < 1e-4 else f"p = {found.p_value:.2g}"
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}, {p})"


def share(outcome: Outcome | None) -> str:
    """Robust accuracy in percent with its Wilson limits."""
    if outcome is None or not len(outcome.images):
        return NOT_RUN
    found: dict[str, Any] = outcome.numbers()
    middle, low, high = (f"{100 * found[key]:.1f}" for key in ("robust_accuracy", "ci_low", "ci_high"))
    return f"{middle} ({low}–{high})"


def table(findings: Sequence[Finding], same: str) -> pd.DataFrame:
    """Findings as a table for reading, those that were run first; `same` heads the column of the paper's attack."""
    ordered = sorted(findings, key=lambda one: one.verdict == NOT_RUN)
    rows = [
        (one.data, one.claim, one.published, one.same, one.worst, f"**{one.verdict}**", one.models) for one in ordered
    ]
    found = pd.DataFrame(rows, columns=["data", "claim", "published", same, "worst", "verdict", "of"])
    return found if found["of"].any() else found.drop(columns="of")


def in_short(findings: Sequence[Finding]) -> str:
    """The claims that were tried by their verdicts, a line a data set; empty if none was."""
    lines = []
    for data in dict.fromkeys(one.data for one in findings if one.verdict != NOT_RUN):
        by_verdict: dict[str, list[str]] = {}
        for one in findings:
            if one.data == data and one.verdict != NOT_RUN:
                short = one.verdict if one.verdict.endswith("reversed") else one.verdict.partition(",")[0]
                by_verdict.setdefault(short, []).append(one.claim)
        told = [f"**{verdict}:** {'; '.join(by_verdict[verdict])}." for verdict in sorted(by_verdict)]
        lines.append(f"- {data}: {' '.join(told)}\n")
    return "".join(lines)


def _pair(claim: Claim, data: str, shown: Sequence[Exhibit]) -> tuple[Exhibit, Exhibit] | None:
    """The two models of a claim: of one architecture, preferably under the same PGD, on the most images."""
    here = [one for one in shown if one.row.data == data]
    pairs = [
        (a, b)
        for a in here
        for b in here
        if (a.row[1:], b.row[1:]) == (claim.better, claim.other) and a.threat == b.threat and _alike(a, b)
    ]
    return max(pairs, key=_shared, default=None)


def _alike(a: Exhibit, b: Exhibit) -> bool:
    return all(
        getattr(a.dossier.record, key) == getattr(b.dossier.record, key) for key in ("arch", "split", "data_sha256")
    )


def _shared(pair: tuple[Exhibit, Exhibit]) -> tuple[bool, int]:
    """Whether PGD was the same on both sides, and how many images the worst of each is over."""
    plain = [one.pgd.attack for one in pair if one.pgd]
    return len(set(plain)) == 1, sum(len(one.worst.images) for one in pair if one.worst)


def _worst(attacks: Sequence[Judged]) -> Outcome | None:
    return worst(attacks) if any(not one.is_pgd for one in attacks) else None


def _kind(attack: Judged) -> str:
    """What makes two attacks the same: how they are written, but for the model that examples are carried over from."""
    return "transfer" if attack.name == "transfer" else attack.outcome.attack
