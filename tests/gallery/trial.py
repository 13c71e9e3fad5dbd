"""One model of the gallery, attacked as an author would and then as its audits say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import nn

from bench.cli.fixing import until_sound
from bench.core.types import Checkpoint
from bench.data import loading
from bench.evaluation.request import Request, Subject, first_of_each_class
from bench.evaluation.run import in_memory, prepare
from bench.models import checkpoints
from bench.report import audit
from bench.report.evidence import Case
from bench.report.signs import Sign
from bench.store.runs import Run

EPS = 0.2
Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Trial:
    """A model's first run, the runs that audits named, and what was seen of the first."""

    runs: list[Run]
    failed: list[str]
    signs: list[Sign]

    @property
    def clean(self) -> float:
        """Clean accuracy."""
        return float(Case.of(self.runs).right.mean())

    @property
    def plain(self) -> float:
        """What PGD leaves."""
        case = Case.of(self.runs[0])
        return float((case.right & ~case.broken_by(EPS, lambda tried: tried.name == "pgd")).mean())

    @property
    def first(self) -> float:
        """What the first run leaves."""
        return float(Case.of(self.runs[0]).left(EPS).mean())

    @property
    def last(self) -> float:
        """What all runs together leave."""
        return float(Case.of(self.runs).left(EPS).mean())


@cache
def bare(net: str, n: int) -> float:
    """What a net of the registry holds by itself, without anything before or behind it."""

    def factory() -> nn.Module:
        return checkpoints.load(net).model

    return tried(factory, n, "pgd,margin,square", further=False).first


def tried(factory: Factory, n: int, attacks: str = "pgd,adaptive", further: bool = True) -> Trial:
    """Attack the model of a factory on the first n digits; then, if wanted, run what audits name."""
    asked = Request(factory.__name__, attacks, data="digits", n=n, norm="linf", eps=[(EPS, str(EPS))], force=True)

    def make(request: Request, _place: Path) -> Run:
        data = loading.load("digits", "test", None).select(slice(0, n))
        model = factory()
        home = Checkpoint(name=factory.__name__, arch=factory.__name__)
        digest = checkpoints.state_sha256(model)
        tested = Subject(model, home, digest, data, lambda count: first_of_each_class(data, count))
        with prepare(request, tested) as prepared:
            return in_memory(prepared)

    first = make(asked, Path())
    runs, failed = until_sound([first], asked, make) if further else ([first], [])
    return Trial(runs, failed, audit.signs(first))
