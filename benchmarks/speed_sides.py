"""The two sides of a comparison: what is timed, and how what comes back is judged afterwards.

Our attacks run as `bench run` runs them: weights frozen and laid out by `bench.models.memory_format`, passes counted.
Peers run as their users call them: the model as it was loaded, the whole batch at once, their own checks and clipping
included. What either side returns is judged by `bench.evaluation.judge` after the clock has stopped; only our ensembles
and sweeps, which judge between their stages, are timed with the judge.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.extras import imported
from bench.core.types import Budget, ImageSet, Norm, ThreatModel
from bench.evaluation import batching, judge
from bench.evaluation import schedule as trials
from bench.evaluation.plan import Planned, plan
from bench.evaluation.request import Request, subject
from bench.models import memory_format
from bench.ops import active_set, passes, rng
from bench.ops.frozen import frozen
from benchmarks import speed_floor
from benchmarks.speed_works import APART, FLOOR, STEP, SWEEP_EPS, Case, Rival, Work


@dataclass(frozen=True)
class Scene:
    """A model and its first images that it gets right, under one norm and eps."""

    model: Any
    data: ImageSet
    norm: Norm
    eps: float

    @classmethod
    def load(cls, case: Case, count: int) -> Scene:
        """The first `count` correctly classified test images, or as many as there are, at the model's own eps."""
        tested = subject(Request(case.model, ""))
        data, threat = tested.data.select(slice(0, 4 * count)), tested.checkpoint.trained_for
        if threat is None or threat.eps is None:
            raise ValueError(f"{case.model} has no eps of its own")
        with frozen(tested.model):
            right = ~active_set.misclassified(passes.reference_outputs(tested.model, data.images), data.labels)
        return cls(tested.model, data.select(right.nonzero().squeeze(1)[:count]), threat.norm, threat.eps)

    def grid(self) -> list[float]:
        """The eps of a sweep, ascending."""
        return [2 * self.eps * step / SWEEP_EPS for step in range(1, SWEEP_EPS + 1)]

    def planned(self, written: str) -> Planned:
        """The attack of a specification, for this model."""
        written = written.format(step=repr(STEP * self.eps))
        return plan(written, self.model, ThreatModel(self.norm, self.eps))[0]


@dataclass(frozen=True)
class Answer:
    """Verdicts, ordered by eps, then image: which are broken (m,), and of minimal attacks the sizes (m,)."""

    broken: Tensor
    size: Tensor | None = None

    @property
    def robust(self) -> float:
        """The share that is left unbroken."""
        return 1 - float(self.broken.float().mean())

    @property
    def median(self) -> float | None:
        """The median size over the broken."""
        return None if self.size is None or not self.broken.any() else float(self.size[self.broken].quantile(0.5))


@dataclass(frozen=True)
class Side:
    """What one side does: `run` is timed, `judged` looks at what it returned. `counts` says that it is our own."""

    run: Callable[[], Any]
    judged: Callable[[Any], Answer | None]
    counts: bool = True


@contextmanager
def ready(scene: Scene) -> Iterator[None]:
    """The model as `bench run` makes it ready: checked modes, frozen, laid out as its kernels like it."""
    with frozen(scene.model), memory_format.suited(scene.model, scene.data.images[:16]):
        yield


def answer(scene: Scene, x_adv: Tensor, eps: float | None) -> Answer:
    """Judge proposals (n, C, H, W) for the scene's images; eps None takes any size."""
    x, y = scene.data.images, scene.data.labels
    bound = None if eps is None else torch.full((len(x),), eps, dtype=torch.float64)
    with frozen(scene.model):
        seen = judge.judge(scene.model, x, x_adv.detach(), y, scene.norm, bound)
    broken = verdicts.broken(y, y, seen.adv_pred, seen.lawful)
    return Answer(broken, seen.size if eps is None else None)


def ours(scene: Scene, work: Work) -> Side:
    """Our side of a work."""
    planned = scene.planned(work.ours)
    if work.how in ("exact", "bisect"):
        return _jobs(scene, planned, [scene.grid()], work.how)
    if work.how == "job":
        return _jobs(scene, planned, [[scene.eps]], "exact")
    eps = None if planned.attack.minimal else scene.eps

    def run() -> Tensor:
        x, y = scene.data.images, scene.data.labels
        bound = None if eps is None else torch.full((len(x),), eps, dtype=torch.float64)
        with ready(scene), passes.counted(len(x)):
            keys = rng.keys(0, scene.data.indices, planned.name)
            return planned.attack(scene.model, x, y, Budget(planned.norm, bound), keys)

    return Side(run, lambda x_adv: answer(scene, x_adv, eps))


def _jobs(scene: Scene, planned: Planned, grids: Sequence[Sequence[float]], order: Any) -> Side:
    """One job for each grid of eps, cut into chunks as a run cuts it."""

    def run() -> list[Any]:
        with ready(scene):
            size = batching.batch_size(scene.model, scene.data.images[:1])
            threats = [[ThreatModel(scene.norm, eps) for eps in grid] for grid in grids]
            jobs = [trials.Job(scene.model, scene.data, scene.data.labels, t, 0, size, order=order) for t in threats]
            return [row for job in jobs for cut in trials.chunks(job, [planned]) for row in _rows(job, cut)]

    def judged(rows: list[Any]) -> Answer:
        total = sorted((row.eps, row.index, row.broken) for row in rows if row.attack == planned.label)
        return Answer(torch.tensor([broken for _, _, broken in total]))

    return Side(run, judged)


def _rows(job: trials.Job, cut: trials.Chunk) -> list[Any]:
    return trials.perform(job, cut).verdicts


def against(scene: Scene, work: Work, rival: Rival, schedule: Sequence[speed_floor.Pass]) -> Side:
    """The other side: the bare passes of our schedule, our attack an eps at a time, or another library's attack."""
    if rival.name == FLOOR:
        return _floor(scene, schedule)
    if rival.name == APART:
        return _jobs(scene, scene.planned(rival.written), [[eps] for eps in scene.grid()], "exact")
    if work.name == "apgd_ce":
        return _apgd_ce(scene)
    planned = scene.planned(rival.written)
    swept = work.how in ("exact", "bisect")
    eps: Any = scene.grid() if swept else None if planned.attack.minimal else scene.eps
    attack: Any = planned.attack

    def run() -> Any:
        torch.manual_seed(0)
        with redirect_stdout(sys.stderr):
            return attack.propose(scene.model, scene.data.images, scene.data.labels, scene.norm, eps, 0)

    def judged(proposed: Any) -> Answer:
        scene.model.zero_grad(set_to_none=True)
        if not swept:
            return answer(scene, proposed, eps)
        parts = [answer(scene, x_adv, bound) for x_adv, bound in zip(proposed, eps, strict=True)]
        return Answer(torch.cat([part.broken for part in parts]))

    return Side(run, judged, counts=False)


def _apgd_ce(scene: Scene) -> Side:
    kind = imported("pyautoattack", "pyautoattack.autopgd_base", "pip install pyautoattack").APGDAttack
    names = {"linf": "Linf", "l2": "L2"}

    def run() -> Any:
        attack = kind(scene.model, n_iter=100, norm=names[scene.norm], eps=scene.eps, seed=0, loss="ce", device="cpu")
        return attack.perturb(scene.data.images, scene.data.labels)

    return Side(run, lambda x_adv: answer(scene, x_adv, scene.eps), counts=False)


def _floor(scene: Scene, schedule: Sequence[speed_floor.Pass]) -> Side:
    def run() -> None:
        with ready(scene):
            speed_floor.replay(scene.model, scene.data.images, schedule)

    return Side(run, lambda _: None)


def scene_for(base: Scene, work: Work, count: int) -> Scene:
    """The scene of a work: its norm, and its number of images."""
    return replace(base, norm=work.norm, data=base.data.select(slice(0, count)))
