"""What makes a prediction wrong and an image broken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.core import verdicts
from bench.core.types import NOT_FINITE

KINDS: dict[str, Callable[[list[Any]], Any]] = {"tensor": torch.tensor, "array": np.array, "column": pd.Series}
TABLE = {
    # (clean_pred, adv_pred, lawful) of an image with the label 1
    (1, 1, True): False,  # stands
    (1, 2, True): True,
    (1, NOT_FINITE, True): False,  # met NaN: no evidence of either
    (1, 1, False): False,
    (1, 2, False): False,  # beyond the budget
    (1, NOT_FINITE, False): False,
    (2, 1, True): False,  # wrong when clean
    (2, 2, True): False,
    (2, NOT_FINITE, True): False,
    (2, 1, False): False,
    (2, 2, False): False,
    (2, NOT_FINITE, False): False,
    (NOT_FINITE, 1, True): False,
    (NOT_FINITE, 2, True): False,
    (NOT_FINITE, NOT_FINITE, True): False,
    (NOT_FINITE, 1, False): False,
    (NOT_FINITE, 2, False): False,
    (NOT_FINITE, NOT_FINITE, False): False,
}


def test_the_table_is_whole():
    assert set(TABLE) == set(product((1, 2, NOT_FINITE), (1, 2, NOT_FINITE), (True, False)))


@pytest.mark.parametrize("kind", KINDS)
class TestElementByElement:
    def test_broken_is_right_when_clean_and_lawfully_misclassified(self, kind):
        column = KINDS[kind]
        clean_pred, adv_pred, lawful = (column(list(values)) for values in zip(*TABLE, strict=True))
        answer = verdicts.broken(column([1] * len(TABLE)), clean_pred, adv_pred, lawful)
        assert type(answer) is type(clean_pred) and answer.tolist() == list(TABLE.values())

    def test_what_is_not_finite_names_no_class(self, kind):
        label, pred = (KINDS[kind](values) for values in ([0, 0, 0, 3], [0, 1, NOT_FINITE, 0]))
        assert verdicts.misclassified(label, pred).tolist() == [False, True, False, True]
