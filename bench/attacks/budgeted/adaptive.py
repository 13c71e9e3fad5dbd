"""The adaptive family: PGD on the losses that defenses train on, and on margins and rescalings of their scores.

`adaptive` on the command line means every attack here whose needs the model meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, HasCenters, HasFeatures, Norm, Scene
from bench.ops import center_losses, losses, passes
from bench.ops.ascent import Attempt, Schedule, first_success

Model = TypeVar("Model", bound=Classifier)
"""What an attack needs its model to have."""

_Attempts = Iterator[Attempt]


@dataclass(frozen=True)
class Adaptive(Generic[Model]):
    """PGD from a random start on an objective that a subclass chooses; steps as in `pgd`.

    The random start is part of the attack: cosine distance and KL are flat at the clean image.
    """

    steps: int = bounded(40, low=1)
    step_size: float | None = bounded(None, above=0)
    restarts: int = bounded(1, low=1)

    adaptive: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    minimal: ClassVar[bool] = False

    def attempts(self, model: Model, x: Tensor, y: Tensor) -> _Attempts:
        """The ascents to make, most promising first."""
        raise NotImplementedError

    def __call__(self, model: Model, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        schedule = Schedule.standard(budget, self.steps, self.step_size)
        repeated = [attempt for attempt in self.attempts(model, x, y) for _ in range(self.restarts)]
        return first_success(model, x, y, budget, keys, schedule, repeated)


@attacks.register("margin")
@dataclass(frozen=True)
class Margin(Adaptive[Classifier]):
    """Best wrong logit minus true logit, the margin of Carlini and Wagner (2017): does not saturate."""

    def attempts(self, model: Classifier, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(losses.logit_margin)


@attacks.register("normalised_ce")
@dataclass(frozen=True)
class NormalisedCE(Adaptive[Classifier]):
    """Cross-entropy of logits brought to unit spread: undoes the saturation that huge features cause."""

    scale: float = bounded(1.0, above=0)

    def attempts(self, model: Classifier, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(losses.NormalisedCE(self.scale))


@attacks.register("kl")
@dataclass(frozen=True)
class KL(Adaptive[Classifier]):
    """CE + beta KL(clean || adversarial): the adaptive attack on TRADES (MAT, section 4.4).

    `beta` is TRADES' 1 / lambda; a checkpoint's stanza sets it to what the model was trained with.
    """

    beta: float = bounded(6.0, low=0)

    def attempts(self, model: Classifier, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent, against the clean logits."""
        yield Attempt(losses.TradesObjective(self.beta), (passes.outputs(model, x),))


@attacks.register("latent")
@dataclass(frozen=True)
class Latent(Adaptive[HasFeatures]):
    """Pull the features onto those of a clean image of another class (Sabour et al. 2016).

    The `targets` nearest exemplars of other classes are tried in turn; exemplars are the first `per_class` images of
    each class of the training split, so that they are the same for every run.
    """

    targets: int = bounded(2, low=1)
    per_class: int = bounded(10, low=1)
    exemplars: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False, metadata={"bound": True})

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def bind(self, scene: Scene) -> Latent:
        """Fetch the exemplars before a run."""
        return replace(self, exemplars=scene.exemplars(self.per_class))

    def attempts(self, model: HasFeatures, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent a target."""
        if self.exemplars is None:
            raise ValueError("latent has no exemplars: call bind(scene) first")
        images, labels = (part.to(x.device) for part in self.exemplars)
        theirs = passes.reference_outputs(model.features, images)
        distances = torch.cdist(passes.outputs(model.features, x), theirs, compute_mode="donot_use_mm_for_euclid_dist")
        order = distances.masked_fill(labels == y[:, None], torch.inf).argsort(dim=1, stable=True)
        for rank in range(min(self.targets, len(labels))):
            yield Attempt(losses.latent_target, (theirs[order[:, rank]],))


@dataclass(frozen=True)
class _OnCenters(Adaptive[HasCenters]):
    needs: ClassVar[tuple[str, ...]] = ("features", "classify", "class_centers")


@attacks.register("mat")
@dataclass(frozen=True)
class MAT(_OnCenters):
    """FTC + alpha SO + beta CD: MAT's own adaptive attack (MAT, section 4.4).

    A term that the model was not trained with is left out: a checkpoint's stanza sets alpha and beta under
    `trained_with`, and its values stand unless the command line sets others.
    """

    alpha: float = bounded(1.0, low=0)
    beta: float = bounded(6.0, low=0)

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        clean = (passes.outputs(model.features, x),) if self.beta else ()
        yield Attempt(center_losses.MatObjective(self.alpha, self.beta), clean)


@attacks.register("ftc")
@dataclass(frozen=True)
class FTC(_OnCenters):
    """Cosine distance to the center of the true class (MAT, eq. 4)."""

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(center_losses.MatObjective(alpha=0, beta=0))


@attacks.register("so")
@dataclass(frozen=True)
class SO(_OnCenters):
    """The second-order term alone (MAT, eq. 6): weak by itself, part of the ablation."""

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(center_losses.MatObjective(alpha=1, beta=0, ftc=0))


@attacks.register("bibo")
@dataclass(frozen=True)
class BIBO(_OnCenters):
    """Cosine distance to the clean features (MAT, eq. 8)."""

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent, away from the clean features."""
        yield Attempt(center_losses.MatObjective(alpha=0, beta=1, ftc=0), (passes.outputs(model.features, x),))


@attacks.register("cosine_margin")
@dataclass(frozen=True)
class CosineMargin(_OnCenters):
    """Best wrong cosine minus the true one: free of the scale of features and centers."""

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(center_losses.cosine_margin)


@attacks.register("mmc")
@dataclass(frozen=True)
class MMC(_OnCenters):
    """Descend MMC's own loss toward the nearest wrong center (Tramer et al. 2020, section on MMC)."""

    def attempts(self, model: HasCenters, x: Tensor, y: Tensor) -> _Attempts:
        """One ascent."""
        yield Attempt(center_losses.nearest_wrong_center)
