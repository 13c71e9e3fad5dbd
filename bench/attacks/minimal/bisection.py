"""The smallest eps at which an attack under a budget succeeds: `minimal(strong)` and its like."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from bench.attacks.minimal.fmn import FMN
from bench.core.fields import bounded
from bench.core.from_specs import attack_from
from bench.core.registry import attacks
from bench.core.specs import parse_specs
from bench.core.types import Attack, Budget, Classifier, Norm, Scene, UserError
from bench.ops import active_set, norms, passes, rng
from bench.ops.active_set import Proposals


@attacks.register("bisection")
@dataclass(frozen=True)
class Bisection:
    """Smaller and smaller budgets for an attack, until it fails; written `minimal(ATTACK)`.

    FMN finds a first size. Then each image is attacked at an eps of its own: below its size by `shrink`, by twice as
    much after each success, and half-way between the last failure and the size once there is one. What is found counts
    by its own size, not by the eps it was looked for at.

    Args:
        attack: an attack under a budget, with fields if need be.
        rounds: attacks on an image at most.
        shrink: share of the size by which the first eps is below it.
        precision: an image is done when size and failure are as near as this share of the size.
        steps: steps of FMN.
    """

    attack: str = "strong"
    rounds: int = bounded(8, low=1)
    shrink: float = bounded(0.02, above=0, high=0.5)
    precision: float = bounded(0.005, above=0, high=0.5)
    steps: int = bounded(200, low=1)
    inner: Attack | None = field(default=None, repr=False, compare=False, metadata={"bound": True})

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    minimal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._named()

    def bind(self, scene: Scene) -> Bisection:
        """Let the attack ask for what it needs."""
        attack = self._named()
        bind = getattr(attack, "bind", None)
        return replace(self, inner=bind(scene) if bind else attack)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        attack, norm = self.inner or self._named(), budget.norm
        if norm not in attack.norms:
            raise UserError(
                f"minimal({self.attack}) does not work in {norm}: {self.attack} knows {', '.join(attack.norms)}"
            )
        proposals, everything = Proposals(x), active_set.everything(x)
        x_adv = FMN(self.steps)(model, x, y, Budget(norm, None), rng.fold(keys, -1))
        size = norms.size(x_adv.double() - x.double(), norm)
        proposals.record_smaller(everything, x_adv, size > 0, size)
        size = torch.where(size > 0, size, norms.size(torch.maximum(x, 1 - x).double(), norm))
        failed, shrink = torch.zeros_like(size), torch.full_like(size, self.shrink)
        for turn in range(self.rounds):
            rows = (size - failed > self.precision * size).nonzero().squeeze(1)
            if not len(rows):
                break
            eps = torch.where(failed > 0, (failed + size) / 2, size * (1 - shrink))[rows]
            with passes.among(rows):
                z = attack(model, x[rows], y[rows], Budget(norm, eps), rng.fold(keys[rows], turn))
            reached = norms.size(z.double() - x[rows].double(), norm)
            success = reached > 0
            proposals.record_smaller(rows, z, success, reached)
            size[rows] = torch.where(success, reached.minimum(size[rows]), size[rows])
            failed[rows] = torch.where(success, failed[rows], eps)
            shrink[rows] = (2 * shrink[rows]).clamp_max(0.5)
        return proposals.x_adv

    def _named(self) -> Attack:
        specs = parse_specs(self.attack)
        attack = attack_from(specs[0], {})
        if len(specs) > 1 or attack.minimal or isinstance(attack, Bisection):
            raise UserError(f"minimal({self.attack}) is not possible: name one attack that works under a budget")
        return attack
