"""What makes a prediction wrong and an image broken: said once, for tensors, arrays and columns of a table alike.

The functions work element by element, through operators alone: none of the three is imported.
"""

from __future__ import annotations

from typing import Any, TypeVar

from bench.core.types import NOT_FINITE, Norm

TOLERANCE = 1e-6
"""The share by which a size may exceed eps: sums in float32 round."""
_ORDER: dict[Norm, float] = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}

Column = TypeVar("Column")
"""A tensor, an array or a column of a table; all arguments of a call are of one kind."""


def rounding(values: int, norm: Norm) -> float:
    """How much storing an image of so many values of [0, 1] in float32 can add to the size of its perturbation."""
    return float(2.0**-24 * values ** (1 / _ORDER[norm]))


def allowed(eps: Column, values: int, norm: Norm) -> Column:
    """The largest size that a lawful example of so many values has at eps: rounding is no fault of an attack."""
    bound: Any = eps
    largest: Column = bound * (1 + TOLERANCE) + rounding(values, norm)
    return largest


def misclassified(label: Column, pred: Column) -> Column:
    """Whether predictions (N,) name another class than the labels (N,); `NOT_FINITE` names no class at all."""
    classes: Any = pred
    wrong: Column = (classes != label) & (classes != NOT_FINITE)
    return wrong


def broken(label: Column, clean_pred: Column, adv_pred: Column, lawful: Column) -> Column:
    """Whether images (N,) are right when clean and their adversarial examples lawful and misclassified.

    Args:
        label: the true classes.
        clean_pred: the predictions on the clean images.
        adv_pred: the predictions on the adversarial examples.
        lawful: whether these are finite, in [0, 1] and within the budget, as bool.
    """
    right: Any = clean_pred == label
    both: Column = right & lawful & misclassified(label, adv_pred)
    return both
