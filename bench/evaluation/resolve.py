"""The words of a request as objects: its device, its threat models and its attacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from bench.core.eps import threat_model
from bench.core.types import Checkpoint, Classifier, ThreatModel, UserError
from bench.evaluation.plan import Planned, plan
from bench.evaluation.request import Request, Subject
from bench.models import checkpoints
from bench.models.adapted import adapted
from bench.ops import passes
from bench.ops.frozen import still
from bench.ops.global_random import seeded
from bench.ops.softened import softens


def threats(request: Request, checkpoint: Checkpoint) -> list[ThreatModel]:
    """The threat models of a request, one an eps; the stanza's `trained_for` fills what is left open.

    Raises:
        UserError: an eps in linf is larger than the whole range of an image.
    """
    known = checkpoint.trained_for
    norm = request.norm or (known.norm if known else "linf")
    if request.eps:
        return [threat_model(norm, eps, written) for eps, written in request.eps]
    if known and known.norm == norm:
        return [known]
    return [ThreatModel(norm, None)]


@dataclass(frozen=True)
class Scene:
    """What attacks may ask for before a run; see `bench.core.types.Scene`."""

    subject: Subject
    device: str
    classes: int
    model: Classifier

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        """Clean reference images and labels, `per_class` of each class, on the run's device."""
        images, labels = self.subject.exemplars(per_class)
        return images.to(self.device), labels.to(self.device)

    def surrogate(self, name: str) -> Classifier:
        """Another model of the registry, ready to be attacked.

        Raises:
            UserError: it cannot be had.
        """
        few = self.subject.data.images[:16].to(self.device)
        model = adapted(checkpoints.load(name).model.to(self.device).eval(), few)
        if isinstance(model, nn.Module):
            still(model)
        classes = _classes_of(model, few)
        if classes != self.classes:
            seen = "does not take these images" if classes is None else f"has {classes} classes, not {self.classes}"
            raise UserError(f"surrogate {name!r} {seen}: name a model of the same data")
        return model

    def softens(self) -> str:
        """The activations of the prepared model that a softened backward pass reaches; "" for none."""
        few = self.subject.data.images[:1].to(self.device)
        try:
            with seeded(self.model, "softens"):
                return softens(self.model, few)
        except (RuntimeError, TypeError, NotImplementedError):
            return ""


def _classes_of(model: Classifier, images: Tensor) -> int | None:
    """How many classes a model tells apart; None where it does not take these images."""
    try:
        logits = passes.reference_outputs(model, images)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError, AttributeError):
        return None
    return logits.shape[1] if logits.dim() == 2 else None


def attacks_of(
    request: Request, model: Classifier, asked: list[ThreatModel], trained_with: Mapping[str, Mapping[str, Any]]
) -> list[Planned]:
    """The attacks of a request, in the order written, each fit for the model and for every threat model asked.

    Raises:
        UserError: a name or field is wrong, or an attack does not fit the model or the threat models.
    """
    planned = plan(request.attacks, model, asked[0], trained_with)
    _refuse_limit(request.max_passes, planned)
    for attack in planned if len(asked) > 1 else []:
        if attack.norm != asked[0].norm:
            remedy = f"give --norm {attack.norm} and --eps"
            raise UserError(f"attack {attack.label!r} measures {attack.norm}, the sweep {asked[0].norm}: {remedy}")
    return planned


def _refuse_limit(most: int | None, planned: list[Planned]) -> None:
    """Refuse a limit of passes that is none, or on an attack that cannot be held to it."""
    if most is None:
        return
    if not isinstance(most, int) or isinstance(most, bool) or not 0 < most < 2**63:
        raise UserError(f"max_passes {most!r} is not a whole number of at least 1: give one")
    for attack in planned:
        if getattr(attack.attack, "counts_on_average", False):
            fault = f"attack {attack.label!r} is another library's, whose passes are known of a whole batch alone"
            raise UserError(f"{fault}: it cannot be held to --max-passes; leave out one of the two")


def bound(planned: Planned, scene: Scene) -> Planned:
    """An attack that has asked the scene for what it needs.

    Raises:
        UserError: the scene has not what it needs, or the model has too few classes.
    """
    fewest = getattr(planned.attack, "fewest_classes", 2)
    if scene.classes < fewest:
        fault = f"attack {planned.label!r} needs at least {fewest} classes, and the model has {scene.classes}"
        raise UserError(f"{fault}: use an attack on cross-entropy or the margin")
    bind = getattr(planned.attack, "bind", None)
    return replace(planned, attack=bind(scene)) if bind else planned
