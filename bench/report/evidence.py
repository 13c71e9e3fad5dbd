"""What is known of a model from one run or several: which attack broke which image, and by what means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from bench.core.types import UserError
from bench.report import measures
from bench.report.measures import Outcome
from bench.store import behaviour
from bench.store.record import AttackEntry, Record, StageEntry
from bench.store.runs import Run

NOISE = frozenset({"noise"})
ONE_STEP = frozenset({"fgsm"})
INDIRECT = frozenset({"transfer", "latent", "so", "ftc", "bibo"})
"""Attacks that climb something else than this model's decision: losing to a weaker one says nothing."""
CROSS_ENTROPY = frozenset({"pgd", "bim", "mim", "apgd_ce"})
"""Attacks that climb untargeted cross-entropy in many steps."""


@dataclass(frozen=True)
class Tried:
    """What an attack, or a stage of an ensemble, broke by itself at one eps.

    `broken` has a value an image, by index, and so has `given`: whether the attack was given the image. A stage breaks
    images of those that the stages before it left, and was given no others.
    """

    label: str
    entry: AttackEntry | StageEntry
    norm: str
    eps: float | None
    broken: pd.Series[bool]
    given: pd.Series[bool]
    passes: tuple[int, int]
    minimal: bool

    @property
    def name(self) -> str:
        """The registered name."""
        return self.entry.name

    @property
    def needs_no_gradient(self) -> bool:
        """Whether it is a search by values or decisions alone."""
        return self.passes[1] == 0 and self.passes[0] > 0 and self.name not in NOISE | INDIRECT

    @property
    def is_iterated(self) -> bool:
        """Whether it follows this model's gradients in many steps."""
        one_step = self.name in ONE_STEP or self.entry.fields.get("steps") == 1
        return not (one_step or self.passes[1] == 0 or self.name in NOISE | INDIRECT)

    @property
    def climbs_cross_entropy(self) -> bool:
        """Whether it climbs cross-entropy in many steps, without a target."""
        return self.name in CROSS_ENTROPY and not self.entry.fields.get("targeted")


@dataclass(frozen=True)
class Case:
    """Runs of one model on the same images, which an audit reads together.

    The first is the one in question; later ones were made to try what it left.
    """

    runs: tuple[Run, ...]

    @classmethod
    def of(cls, runs: Run | Sequence[Run]) -> Case:
        """The case of a run, or of several.

        Raises:
            UserError: they are not of one model on the same images in the same norm.
        """
        several = (runs,) if isinstance(runs, Run) else tuple(runs)
        first = several[0].record
        for run in several[1:]:
            for key in ("model", "weights_sha256", "data", "split", "data_sha256", "indices", "norm"):
                if getattr(run.record, key) != getattr(first, key):
                    raise UserError(f"{run.directory} has another {key} than {several[0].directory}: audit it alone")
            if unlike := behaviour.between(first, run.record):
                raise UserError(
                    f"{several[0].directory} and {run.directory} are of two models ({unlike}): audit each alone"
                )
        return cls(several)

    @property
    def record(self) -> Record:
        """The record of the run in question."""
        return self.runs[0].record

    @cached_property
    def tried(self) -> list[Tried]:
        """Everything tried, at each eps."""
        return [tried for run in self.runs for tried in _tried(run)]

    @cached_property
    def right(self) -> pd.Series[bool]:
        """Whether each image, by index, is classified rightly when clean."""
        rows = self.runs[0].verdicts.drop_duplicates("index").set_index("index").sort_index()
        return rows["label"] == rows["clean_pred"]

    @property
    def eps(self) -> float | None:
        """The eps that signs are about: the largest of the run, None where there is none."""
        return self.budgets[-1] if self.budgets else None

    @property
    def is_random(self) -> bool:
        """Whether the model answers differently each time."""
        return "deterministic" in self.record.forced or self.record.draws > 1

    @property
    def is_averaged(self) -> bool:
        """Whether some attack averaged over draws."""
        runs = any(run.record.eot > 1 for run in self.runs)
        return runs or self.ran(lambda tried: int(tried.entry.fields.get("eot_iter", 1)) > 1)

    @property
    def is_doubtful(self) -> bool:
        """Whether enough images are left for a doubt to matter: three, and two in a hundred."""
        left = self.left(self.eps)
        return int(left.sum()) >= max(3, 0.02 * len(left))

    @property
    def budgets(self) -> list[float]:
        """Each eps in the norm of the run, ascending."""
        return sorted({t.eps for t in self.tried if t.eps is not None and t.norm == self.record.norm})

    def at(self, eps: float | None) -> list[Tried]:
        """What was tried at one eps in the norm of the run."""
        return [tried for tried in self.tried if tried.eps == eps and tried.norm == self.record.norm]

    def broken_by(self, eps: float | None, which: Callable[[Tried], bool]) -> pd.Series[bool]:
        """Whether some attack of a kind broke each image at one eps."""
        return self._any(eps, which, lambda tried: tried.broken)

    def given_to(self, eps: float | None, which: Callable[[Tried], bool]) -> pd.Series[bool]:
        """Whether some attack of a kind was given each image at one eps."""
        return self._any(eps, which, lambda tried: tried.given)

    def _any(
        self, eps: float | None, which: Callable[[Tried], bool], of: Callable[[Tried], pd.Series[bool]]
    ) -> pd.Series[bool]:
        result = pd.Series(False, index=self.right.index)
        for tried in self.at(eps):
            if which(tried):
                result |= of(tried).reindex(result.index, fill_value=False)
        return result

    def left(self, eps: float | None) -> pd.Series[bool]:
        """Whether each image is right and no attack broke it at one eps; all that are right where there is none."""
        if eps is None:
            return self.right
        return self.right & ~self.broken_by(eps, lambda _: True)

    def met(self, *names: str) -> bool:
        """Whether an attack of one of these names was run, by itself or as a stage."""
        return any(tried.name in names for tried in self.tried)

    def ran(self, which: Callable[[Tried], bool]) -> bool:
        """Whether an attack of a kind was run."""
        return any(which(tried) for tried in self.tried)

    def known_letters(self, loss: str) -> pd.Series[bool]:
        """Whether the gradient of a loss fails, by index, in every form of the model that was searched on.

        Only images on which it was looked at; see `bench.store.record.Gradients`.
        """
        result: pd.Series[bool] | None = None
        for run in self.runs:
            seen = run.record.gradients
            if seen is None:
                continue
            letters = dict(zip(run.record.indices, getattr(seen, loss), strict=False))
            fails = pd.Series({index: letter == "x" for index, letter in letters.items() if letter != "-"}, dtype=bool)
            result = fails if result is None else result & fails.reindex(result.index, fill_value=True)
        return pd.Series(dtype=bool) if result is None else result


def _tried(run: Run) -> Iterable[Tried]:
    stages = {stage.spec: (whole, stage) for whole in run.record.attacks for stage in whole.stages}
    wholes = {whole.spec: whole for whole in run.record.attacks}
    before: dict[tuple[str, float | None], pd.Series[bool]] = {}
    for outcome in measures.outcomes(run):
        if outcome.attack in stages:
            whole, stage = stages[outcome.attack]
            key = whole.spec, outcome.eps
            given = ~before.get(key, pd.Series(False, index=outcome.images.index))
            before[key] = outcome.images["broken"]
            yield _made(outcome, stage, given, minimal=False)
        elif outcome.attack in wholes and not wholes[outcome.attack].stages:
            whole = wholes[outcome.attack]
            yield _made(outcome, whole, pd.Series(True, index=outcome.images.index), whole.minimal)


def _made(outcome: Outcome, entry: AttackEntry | StageEntry, given: pd.Series[bool], minimal: bool) -> Tried:
    passes, broken = (outcome.forwards, outcome.backwards), outcome.images["broken"] & given
    return Tried(outcome.attack, entry, outcome.norm, outcome.eps, broken, given, passes, minimal)
