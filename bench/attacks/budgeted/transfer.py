"""Transfer: adversarial examples of another model, tried on this one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from bench.core.fields import bounded
from bench.core.from_specs import attack_from
from bench.core.registry import attacks
from bench.core.specs import parse_specs
from bench.core.types import Attack, Budget, Classifier, Norm, Objective, Scene, UserError
from bench.ops import active_set, losses, norms, passes
from bench.ops.active_set import Proposals
from bench.ops.ascent import Schedule, ascend

# What can be climbed to the end of the budget: objective, momentum, random start.
_CLIMBS: dict[str, tuple[Objective, float, bool]] = {
    "bim": (losses.ce, 0.0, False),
    "margin": (losses.logit_margin, 0.0, True),
    "mim": (losses.ce, 1.0, False),
    "pgd": (losses.ce, 0.0, True),
}


@attacks.register("transfer")
@dataclass(frozen=True)
class Transfer:
    """Examples made on a surrogate, another model of the registry, and only tested here: `transfer(model="NAME")`.

    Passes are those of the target: one forward an image. The surrogate's are not counted.

    Args:
        model: the surrogate's name.
        attack: with pgd, bim, mim or margin, the surrogate is climbed for all `steps` and the last iterate is tried: an
            example that merely crosses the surrogate's boundary transfers poorly (Liu et al. 2017). Any other budgeted
            attack of the registry, with its fields as in `attack="multi_targeted(steps=20)"`, is given the surrogate as
            it is.
        steps: steps of pgd, bim, mim and margin.
        step_size: their step size; None means 2.5 eps / steps.
    """

    model: str = ""
    attack: str = "pgd"
    steps: int = bounded(40, low=1)
    step_size: float | None = bounded(None, above=0)
    surrogate: Classifier | None = field(default=None, repr=False, compare=False, metadata={"bound": True})
    method: Attack | None = field(default=None, repr=False, compare=False, metadata={"bound": True})

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False
    gradient_free: ClassVar[bool] = True

    def bind(self, scene: Scene) -> Transfer:
        """Load the surrogate, and settle the attack, before a run.

        Raises:
            UserError: no surrogate is named, or the attack cannot be used on it.
        """
        if not self.model:
            raise UserError('transfer needs a surrogate: write transfer(model="NAME"), as bench list models shows them')
        surrogate = scene.surrogate(self.model)
        method = None if self.attack in _CLIMBS else self._method(surrogate, scene)
        return replace(self, surrogate=surrogate, method=method)

    def _method(self, surrogate: Classifier, scene: Scene) -> Attack:
        """The attack that is named, with its fields."""
        spec, *others = parse_specs(self.attack)
        if others:
            raise UserError(f"transfer takes one attack, not {self.attack!r}: name transfer once for each")
        method: Any = attack_from(spec, {})
        lacking = [need for need in method.needs if not callable(getattr(surrogate, need, None))]
        if method.minimal or isinstance(method, Transfer) or lacking:
            fault = f"needs {', '.join(lacking)}" if lacking else "does not keep to a budget"
            raise UserError(f"transfer cannot use {self.attack!r} on {self.model!r}: it {fault}: use pgd or mim")
        if scene.classes < getattr(method, "fewest_classes", 2):
            raise UserError(
                f"transfer cannot use {self.attack!r}: the model has {scene.classes} classes: use pgd or mim"
            )
        bound: Attack = method.bind(scene) if hasattr(method, "bind") else method
        return bound

    def examples(self, surrogate: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Images (N, C, H, W) that should fool the surrogate."""
        if self.method is not None:
            return self.method(surrogate, x, y, budget, keys)
        objective, momentum, random_start = _CLIMBS[self.attack]
        objective = losses.ce_in(budget.norm) if objective is losses.ce else objective
        ball = norms.Ball.around(x, budget)
        schedule = replace(Schedule.standard(budget, self.steps, self.step_size, momentum), stop=False)
        start = ball.sample(keys) if random_start else x
        return ascend(surrogate, objective, ball, y, start, schedule).x_adv

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        budget.bound("transfer")
        if self.surrogate is None:
            raise ValueError("transfer has no surrogate: call bind(scene) first")
        with passes.counted(len(x), x.device):
            z = self.examples(self.surrogate, x, y, budget, keys)
        proposals = Proposals(x)
        proposals.record(active_set.everything(x), z, active_set.misclassified(passes.outputs(model, z), y))
        return proposals.x_adv
