"""Which system of the ER-Classifier's tables a model or a detector is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER = "ER-004"
MADRY = "Madry"
_DATA = {"mnist": "MNIST", "cifar10": "CIFAR10", "stl10": "STL10", "tinyimagenet": "Tiny Imagenet"}


def data(record: Mapping[str, Any]) -> str:
    """A run's data set as the tables name it."""
    name = str(record.get("data", ""))
    return _DATA.get(name.lower().replace("-", "").replace("_", ""), name)


def settings(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a model trained by the defense `er` was trained with, as its stanza has it; None for others."""
    found: Mapping[str, Any] | None = (record.get("trained_with") or {}).get("er")
    return found


def system(record: Mapping[str, Any]) -> str | None:
    """ER-Classifier, E-CLA (weight 0) or Madry, the first two with or without min-max training; None for others.

    Madry is adversarial training of one of the ER-Classifier's nets, named er_*.
    """
    found = settings(record)
    if found is None:
        ours = str(record.get("arch", "")).startswith("er_") and record.get("defense") in ("madry", "at")
        return MADRY if ours else None
    stem = "ER-Classifier" if found.get("weight", 0) > 0 else "E-CLA"
    return f"{stem}, min-max" if found.get("minmax") else stem


def detector(record: Mapping[str, Any]) -> str:
    """A detection's detector: KD, LID, or ER1, ER2, ER1-, ER2- by how its encoder was trained.

    1: without min-max training, 2: with it; a minus: without a prior. The paper does not say what sets 1 and 2 apart:
    this is our reading. An encoder of another kind is named.
    """
    about = record["detector"]
    if about["name"] != "er":
        return str(about["name"]).upper()
    found = settings(about["encoder"])
    if found is None:
        return f"ER ({about['encoder']['model']})"
    return f"ER{2 if found.get('minmax') else 1}{'' if found.get('weight', 0) > 0 else '-'}"


def embedding(record: Mapping[str, Any]) -> int | None:
    """The number of codes n_z of a model whose stanza names it; its net's own number otherwise."""
    own = {"er_mnist": 4, "er_digits": 4, "er_cifar10": 16, "er_stl10": 16, "er_tiny_imagenet": 20}
    chosen = (record.get("args") or {}).get("dim", own.get(str(record.get("arch"))))
    return None if chosen is None else int(chosen)
