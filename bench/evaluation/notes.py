"""What is worth knowing of a model and its images before a run's numbers are believed; nothing here refuses a run."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.core.types import Classifier, ImageSet, Note
from bench.evaluation.checks import depends_on_batch, differs, quantised
from bench.models.adapted import notes_of
from bench.ops import passes
from bench.ops.global_random import seeded

_SAMPLE = 16
_UNLIKELY = 0.05


def model_notes(model: Classifier, data: ImageSet, device: str) -> list[Note]:
    """What is to be said of a prepared model that passes the checks of shape, on a few images of its data."""
    x = data.images[:_SAMPLE].to(device)
    logits = passes.reference_outputs(model, x)
    notes = notes_of(model)
    if bool(((logits >= 0) & (logits <= 1)).all()) and bool(((logits.sum(1) - 1).abs() < 1e-4).all()):
        text = "the model returns probabilities: attacks on cross-entropy take a softmax of them and are weak; return"
        notes.append(Note("softmax", f"{text} logits, or run margin"))
    if extra := _extra_classes(logits.shape[1], data):
        text = f"the model has {extra} class{'es' if extra > 1 else ''} more than the data"
        notes.append(Note("extra class", f"{text}: a detector's or background class counts as an error like any other"))
    if quantised(model) and depends_on_batch(model, x, logits):
        text = "an image's logits depend on its batch: integers are scaled to the batch, and verdicts to a few percent"
        notes.append(Note("batch", text))
    if _keeps_state(model, x):
        text = "an image's logits depend on what the model was given before: it keeps state between calls"
        notes.append(Note("state", text))
    return notes


def _extra_classes(classes: int, data: ImageSet) -> int:
    """How many classes the model has beyond the data's; where the data name none, only if all others are met often."""
    known = len(data.classes)
    met = set(data.labels.tolist())
    if not known and len(met) == max(met) + 1 and len(data) >= 10 * len(met):
        known = len(met)
    return max(classes - known, 0) if known else 0


def _keeps_state(model: Classifier, x: Tensor) -> bool:
    """Whether the logits of images x (N, C, H, W) change after others were seen, where random draws are the same."""
    other = (1 - x).flip(0)
    seen = []
    for before in (x, other):
        passes.reference_outputs(model, before)
        with seeded(model, "notes"):
            seen.append(passes.reference_outputs(model, x))
    return differs(seen[0], seen[1])


def met_in_part(part: Tensor, whole: Tensor) -> Note | None:
    """That the labels (n,) met are not those of the whole set (N,): it is ordered by class, or that unlikely by chance.

    Few labels of a set in random order miss a class too: that is told only where its chance is under 5 %.
    """
    classes, met = set(whole.tolist()), set(part.tolist())
    if len(met) == len(classes):
        return None
    ordered = bool((whole.diff() >= 0).all())
    held = int(torch.isin(whole, torch.tensor(sorted(met))).sum())
    ways = math.comb(len(classes), len(met))
    chance = ways * math.exp(_log_choose(held, len(part)) - _log_choose(len(whole), len(part)))
    if not ordered and chance >= _UNLIKELY:
        return None
    why = "the set is ordered by class" if ordered else "the set may be ordered by class"
    return Note("few classes", f"the first {len(part)} images hold {len(met)} of {len(classes)} classes: {why}")


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
