"""AutoAttack (Croce and Hein 2020): a fixed ensemble, each stage on the images that the stages before it left.

The stages are this package's own attacks with every parameter of the authors' three versions. A run judges the images
between the stages, and gives each stage a row of its own: what is left after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from bench.attacks.budgeted.apgd import APGDCE, APGDDLR, APGDT
from bench.attacks.ensembles.ensemble import Ensemble, Stages
from bench.attacks.gradient_free.square import Square
from bench.attacks.minimal.fab import FAB, FABT
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Attack, Norm, Scene, UserError

_VERSIONS = ("standard", "plus", "rand")
_FEWEST = 4
"""Classes that the targeted difference of logits ratio needs."""


@dataclass(frozen=True)
class _Versions(Ensemble):
    """An ensemble with the authors' three versions."""

    version: str = bounded("standard", choices=_VERSIONS)

    def __post_init__(self) -> None:
        if self.version not in _VERSIONS:
            raise UserError(f"autoattack has no version {self.version!r}: known: {', '.join(_VERSIONS)}")


@attacks.register("autoattack")
@dataclass(frozen=True)
class AutoAttack(_Versions):
    """AutoAttack with every parameter as published; anything else is called `autoattack-custom`.

    For 4 classes or more (with fewer, `autoattack-custom`), in linf and l2: in l1 there is no Square here.

    Args:
        version: "standard" (APGD-CE, targeted APGD-DLR, targeted FAB, Square with 5,000 queries), "plus" (APGD on both
            losses and untargeted FAB from 5 starts each, Square, and the two targeted attacks) or "rand" (APGD on both
            losses, gradients averaged over 20 draws).
    """

    def bind(self, scene: Scene) -> AutoAttack:
        """Refuse models for which the ensemble is not defined."""
        if scene.classes < _FEWEST:
            remedy = "run autoattack-custom, which leaves out what is not defined"
            raise UserError(f"autoattack needs {_FEWEST} classes and this model has {scene.classes}: {remedy}")
        return self

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        if self.version == "rand":
            yield "apgd_ce", APGDCE(eot_iter=20)
            yield "apgd_dlr", APGDDLR(eot_iter=20)
        elif self.version == "plus":
            yield "apgd_ce", APGDCE(restarts=5)
            yield "apgd_dlr", APGDDLR(restarts=5)
            yield "fab", FAB(restarts=5)
            yield "square", Square()
            yield "apgd_t", APGDT()
            yield "fab_t", FABT()
        else:
            yield "apgd_ce", APGDCE()
            yield "apgd_t", APGDT()
            yield "fab_t", FABT()
            yield "square", Square()


@attacks.register("autoattack-custom")
@dataclass(frozen=True)
class AutoAttackCustom(_Versions):
    """AutoAttack's stages with other parameters, for fewer classes, or in l1; not to be quoted as AutoAttack.

    Args:
        version: which stages, as in `autoattack`. With 3 classes the untargeted loss takes the targeted one's place,
            with 2 cross-entropy alone is left of APGD; in l1 there is no Square.
        steps: steps of APGD and FAB.
        queries: queries of Square.
        restarts: runs of APGD on untargeted losses, of untargeted FAB and of Square.
        targets: target classes, at most as many as there are other classes.
        eot_iter: passes that APGD averages at each point.
    """

    steps: int = bounded(100, low=1)
    queries: int = bounded(5000, low=1)
    restarts: int = bounded(1, low=1)
    targets: int = bounded(9, low=1)
    eot_iter: int = bounded(1, low=1)
    classes: int = field(default=0, repr=False, metadata={"bound": True})

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def bind(self, scene: Scene) -> AutoAttackCustom:
        """Take note of the number of classes."""
        return replace(self, classes=scene.classes)

    def stages(self, norm: Norm) -> Stages:
        """Names and attacks, in order."""
        classes = self.classes or _FEWEST
        names = [name for name, _ in AutoAttack(self.version).stages(norm)]
        if classes < _FEWEST:
            names = ["apgd_dlr" if name == "apgd_t" else name for name in names]
        if classes < 3:
            names = [name for name in names if name != "apgd_dlr"]
        if norm == "l1":
            names = [name for name in names if name != "square"]
        for name in dict.fromkeys(names):
            yield name, self._stage(name)

    def _stage(self, name: str) -> Attack:
        steps, restarts, draws = self.steps, self.restarts, self.eot_iter
        stages: dict[str, Attack] = {
            "apgd_ce": APGDCE(steps, restarts, eot_iter=draws),
            "apgd_dlr": APGDDLR(steps, restarts, eot_iter=draws),
            "apgd_t": APGDT(steps, eot_iter=draws, targets=self.targets),
            "fab": FAB(steps=steps, restarts=restarts),
            "fab_t": FABT(steps=steps, targets=self.targets),
            "square": Square(queries=self.queries, restarts=restarts),
        }
        return stages[name]
