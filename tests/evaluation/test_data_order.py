"""A run on images in another order than the official one says so in its record."""

from __future__ import annotations

from dataclasses import replace

from bench.core.types import Checkpoint
from bench.data import loading
from bench.evaluation.request import Request, Subject
from bench.evaluation.run import prepare
from tests.support import subjects


def recorded(order: str) -> dict[str, object]:
    data = replace(loading.load("digits").select(slice(0, 16)), order=order)
    model, request = subjects.linear((1, 8, 8), 10), Request("linear", "fgsm", eps=[(0.1, "0.1")], norm="linf")
    tested = Subject(model, Checkpoint("linear", "linear"), "", data, lambda count: (data.images, data.labels))
    with prepare(request, tested) as prepared:
        return prepared.record.to_dict()


def test_the_order_is_recorded_where_it_is_not_the_official_one():
    assert recorded("last first")["data_order"] == "last first"
    assert "data_order" not in recorded("")
