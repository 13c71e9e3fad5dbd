"""The adaptive attack on ADR: its training objective turned round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from bench.attacks.budgeted.adaptive import Adaptive
from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import HasFeatures, Scene
from bench.ops import passes
from bench.ops.ascent import Attempt
from bench.ops.latent_losses import AdrObjective, Divergence


@attacks.register("adr")
@dataclass(frozen=True)
class ADR(Adaptive[HasFeatures]):
    """CE + lc L_lc + gb L_gb + smt L_smt - conf L_conf: away from the clean features and the clean prediction.

    Against Bui et al. 2020. A checkpoint's stanza sets the weights to what the model was trained with.

    Args:
        lc: weight of local compactness.
        gb: weight of global compactness, over the exemplars and not over a batch, so that an image meets the same ones
            in any batch.
        smt: weight of smoothness.
        conf: weight of confidence.
        drop: climb the sum first, then the sum without each of its terms in turn, cross-entropy too: a term may lead
            the ascent astray.
        per_class: exemplars of each class, as `latent` has them.
    """

    lc: float = bounded(1.0, low=0)
    gb: float = bounded(1.0, low=0)
    smt: float = bounded(1.0, low=0)
    conf: float = bounded(0.0, low=0)
    drop: bool = True
    per_class: int = bounded(10, low=1)
    exemplars: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False, metadata={"bound": True})

    adaptive_to: ClassVar[tuple[str, ...]] = ("adr",)
    also_told: ClassVar[tuple[str, ...]] = ("base",)
    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def bind(self, scene: Scene) -> ADR:
        """Fetch the exemplars before a run."""
        return replace(self, exemplars=scene.exemplars(self.per_class)) if self.gb else self

    def attempts(self, model: HasFeatures, x: Tensor, y: Tensor) -> Iterator[Attempt]:
        """One ascent on the sum, and one without each term."""
        weights = Divergence(self.lc, self.gb, self.smt, self.conf)
        whole = AdrObjective(weights, anchors=self._anchors(model, x))
        z = passes.outputs(model.features, x)
        references = z, passes.reference_outputs(model.classify, z)
        yield Attempt(whole, references)
        terms = weights.switched_on() if self.drop else []
        if terms:
            yield Attempt(replace(whole, ce=0.0), references)
        for term in terms:
            yield Attempt(replace(whole, weights=weights.without(term)), references)

    def _anchors(self, model: HasFeatures, x: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.gb:
            return None
        if self.exemplars is None:
            raise ValueError("adr has no exemplars: call bind(scene) first")
        images, labels = (part.to(x.device) for part in self.exemplars)
        return passes.reference_outputs(model.features, images), labels
