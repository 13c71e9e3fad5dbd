"""Which system of the ER-Classifier's tables a model or a detector is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.store.detections import DetectorEntry
from bench.store.record import ModelRecord, Record

PAPER = "ER-004"
MADRY = "Madry"
_DATA = {"mnist": "MNIST", "cifar10": "CIFAR10", "stl10": "STL10", "tinyimagenet": "Tiny Imagenet"}
_OWN_EMBEDDING = {"er_mnist": 4, "er_digits": 4, "er_cifar10": 16, "er_stl10": 16, "er_tiny_imagenet": 20}


def data(record: Record) -> str:
    """A run's data set as the tables name it."""
    name = record.data
    return _DATA.get(name.lower().replace("-", "").replace("_", ""), name)


def settings(record: ModelRecord) -> Mapping[str, Any] | None:
    """What a model trained by the defense `er` was trained with, as its stanza has it; None for others."""
    return record.trained_with.get("er")


def system(record: ModelRecord) -> str | None:
    """ER-Classifier, E-CLA (weight 0) or Madry, the first two with or without min-max training; None for others.

    Madry is adversarial training of one of the ER-Classifier's nets, named er_*.
    """
    trained = settings(record)
    if trained is None:
        ours = record.arch.startswith("er_") and record.defense in ("madry", "at")
        return MADRY if ours else None
    stem = "ER-Classifier" if trained.get("weight", 0) > 0 else "E-CLA"
    return f"{stem}, min-max" if trained.get("minmax") else stem


def detector(about: DetectorEntry) -> str:
    """A detector: KD, LID, or ER1, ER2, ER1-, ER2- by how its encoder was trained.

    1: without min-max training, 2: with it; a minus: without a prior. The paper does not say what sets 1 and 2 apart:
    this is our reading. An encoder of another kind is named.
    """
    if about.name != "er":
        return about.name.upper()
    trained = settings(about.encoder)
    if trained is None:
        return f"ER ({about.encoder.model})"
    return f"ER{2 if trained.get('minmax') else 1}{'' if trained.get('weight', 0) > 0 else '-'}"


def embedding(record: ModelRecord) -> int | None:
    """The number of codes n_z of a model whose stanza names it; its net's own number otherwise."""
    chosen = record.args.get("dim", _OWN_EMBEDDING.get(record.arch))
    return None if chosen is None else int(chosen)


def has_own_embedding(record: ModelRecord) -> bool:
    """Whether a model has the number of codes that its net has by default."""
    return embedding(record) == _OWN_EMBEDDING.get(record.arch)
