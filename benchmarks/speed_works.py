"""What `benchmarks.speed` measures: models, works, rivals, and the targets set before anything was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from bench.core.types import Norm

FLOOR, BARE, APART = "floor", "bare pass", "12 runs"
"""Rivals that are not another library: see `benchmarks.speed_floor`, `benchmarks.speed_memory`, `speed_sides`."""

SWEEP_EPS = 12
"""A sweep has this many equal steps of eps, up to twice the model's own."""


@dataclass(frozen=True)
class Case:
    """A model and how many of its images a work gets: the longer one run of the work takes, the fewer."""

    model: str
    kind: Literal["robust", "natural"]
    many: int
    some: int
    few: int


@dataclass(frozen=True)
class Rival:
    """What our attack is set against: its attack as `--attacks` would name it, and what a reader must know of it."""

    name: str
    written: str = ""
    note: str = ""


@dataclass(frozen=True)
class Work:
    """One of our attacks and its rivals; `{step}` in what is written stands for `STEP` eps.

    `how` is `attack` (the attack alone is timed), `job` (with everything that `bench.evaluation.schedule` does around
    it, as for an ensemble), `exact` or `bisect` (a job over a grid of eps, met in that order) or `memory`
    (nothing is timed).
    """

    name: str
    ours: str
    rivals: tuple[Rival, ...]
    norm: Norm = "linf"
    images: Literal["many", "some", "few"] = "many"
    how: Literal["attack", "job", "exact", "bisect", "memory"] = "attack"


@dataclass(frozen=True)
class Target:
    """The ratio that was asked for; at least it, or with `at_most` at most it. None asks for nothing."""

    robust: float | None
    natural: float | None
    at_most: bool = False

    def of(self, kind: str) -> float | None:
        """The ratio for a robust or a natural model."""
        return self.robust if kind == "robust" else self.natural


CASES = (
    Case("trades_mnist_smallcnn", "robust", many=128, some=48, few=32),
    Case("cifar_cnn_a_adv", "robust", many=256, some=128, few=32),
    Case("natural_resnet18_cifar10", "natural", many=64, some=16, few=16),
    Case("natural_digits", "natural", many=256, some=128, few=64),
)

STEP = 2.5 / 40
"""The step of our PGD over eps, which its rivals are given too."""

_SAME = "steps of eps / 16, as ours"
_LEVELS = "rounds to 256 grey levels, its default; ours does not"
_CW = "3 searches of 100 steps from c = 1 on both sides"
_ONE_C = "not comparable in strength: one c, no search, cannot move pixels of exactly 0 or 1; 300 steps"
_ALONE = "its class APGDAttack alone, without AutoAttack's checks"
_SWEEP = (
    Rival(APART, "pgd(steps=40)", "one job an eps, ours on both sides"),
    Rival("foolbox", f"foolbox:LinfPGD(steps=40,rel_stepsize={STEP})", "one call with a list of 12 epsilons"),
)
_FLOOR = (Rival(FLOOR),)
_BARE = (Rival(BARE),)

WORKS = (
    Work(
        "pgd",
        "pgd(steps=40)",
        (
            *_FLOOR,
            Rival("foolbox", f"foolbox:LinfPGD(steps=40,rel_stepsize={STEP})", _SAME),
            Rival("torchattacks", "torchattacks:PGD(steps=40,alpha={step})", _SAME),
            Rival("adv_lib", f"adv_lib:pgd_linf(steps=40,relative_step_size={STEP})", _SAME),
        ),
    ),
    Work(
        "ddn",
        "ddn(steps=100)",
        (
            *_FLOOR,
            Rival("foolbox", "foolbox:DDNAttack(steps=100)"),
            Rival("adv_lib", "adv_lib:ddn(steps=100)", _LEVELS),
        ),
        norm="l2",
        images="some",
    ),
    Work("fmn_l2", "fmn(steps=100)", _FLOOR, norm="l2", images="some"),
    Work("fmn_linf", "fmn(steps=100)", _FLOOR, images="some"),
    Work(
        "cw",
        "cw(searches=3,steps=100,c0=1.0)",
        (
            Rival(FLOOR, note=_CW),
            Rival("foolbox", "foolbox:L2CarliniWagnerAttack(binary_search_steps=3,steps=100,initial_const=1.0)", _CW),
            Rival("torchattacks", "torchattacks:CW(c=1.0,steps=300)", _ONE_C),
            Rival(
                "adv_lib",
                "adv_lib:carlini_wagner_l2(binary_search_steps=3,max_iterations=100,initial_const=1.0)",
                _CW,
            ),
        ),
        norm="l2",
        images="some",
    ),
    Work("apgd_ce", "apgd_ce(steps=100)", (*_FLOOR, Rival("pyautoattack", "APGDAttack(n_iter=100,loss='ce')", _ALONE))),
    Work("autoattack", "autoattack", (Rival("pyautoattack", "autoattack:standard"),), images="few", how="job"),
    Work("sweep", "pgd(steps=40)", _SWEEP, images="few", how="exact"),
    Work("sweep_bisect", "pgd(steps=40)", _SWEEP, images="few", how="bisect"),
    Work("memory_pgd", "pgd(steps=10)", _BARE, how="memory"),
    Work("memory_apgd_ce", "apgd_ce(steps=10)", _BARE, how="memory"),
    Work("memory_ddn", "ddn(steps=10)", _BARE, norm="l2", how="memory"),
    Work("memory_fmn", "fmn(steps=10)", _BARE, how="memory"),
    Work("memory_cw", "cw(searches=2,steps=10,c0=1.0)", _BARE, norm="l2", how="memory"),
    Work("memory_fab_t", "fab_t(steps=5,targets=3)", _BARE, how="memory"),
    Work("memory_square", "square(queries=100)", _BARE, how="memory"),
)

_MEMORY = {(work.name, BARE): Target(1.2, 1.2, at_most=True) for work in WORKS if work.how == "memory"}
TARGETS: Mapping[tuple[str, str], Target] = MappingProxyType(
    {
        **{(work, FLOOR): Target(1.05, 1.05, at_most=True) for work in ("pgd", "ddn", "fmn_l2", "fmn_linf")},
        ("cw", FLOOR): Target(1.10, 1.10, at_most=True),
        ("apgd_ce", FLOOR): Target(None, None, at_most=True),
        **{(work, rival): Target(1.6, 5.0) for work in ("pgd", "ddn", "cw") for rival in ("foolbox", "torchattacks")},
        **{(work, "adv_lib"): Target(1.0, 5.0) for work in ("pgd", "ddn", "cw")},
        ("apgd_ce", "pyautoattack"): Target(1.2, 10.0),
        ("autoattack", "pyautoattack"): Target(1.4, 10.0),
        **{(work, rival): Target(3.0, 6.0) for work in ("sweep", "sweep_bisect") for rival in (APART, "foolbox")},
        **_MEMORY,
    }
)


def chosen(works: str | None) -> list[Work]:
    """The works that a comma-separated list names: `pgd`, `pgd/foolbox` for one rival, `memory` for all of a prefix."""
    asked = [part.strip() for part in works.split(",") if part.strip()] if works else []
    if not asked:
        return list(WORKS)
    result = []
    for work in WORKS:
        names = {work.name, work.name.partition("_")[0] if work.how == "memory" else work.name}
        rivals = tuple(one for one in work.rivals if names & set(asked) or f"{work.name}/{one.name}" in asked)
        if rivals:
            result.append(replace(work, rivals=rivals))
    known = {work.name for work in WORKS} | {"memory"} | {f"{w.name}/{one.name}" for w in WORKS for one in w.rivals}
    if unknown := set(asked) - known:
        raise ValueError(f"no work {', '.join(sorted(unknown))}: known are {', '.join(sorted(known))}")
    return result
