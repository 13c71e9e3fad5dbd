"""What happens where memory runs out."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.attacks.budgeted.pgd import PGD
from bench.core.types import UserError
from bench.evaluation import batching
from tests.support import subjects


def _allocator(limit: int, fault: Callable[[], Exception]) -> tuple[Callable[[Tensor], list[int]], list[int]]:
    """An attempt that fails above `limit` rows, and the sizes it was asked for."""
    asked: list[int] = []

    def attempt(rows: Tensor) -> list[int]:
        asked.append(len(rows))
        if len(rows) > limit:
            raise fault()
        return (rows * 10).tolist()

    return attempt, asked


def joined(parts: list[list[int]]) -> list[int]:
    return [value for part in parts for value in part]


FAULTS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "linux": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "python": MemoryError,
}


class TestHalving:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize(("count", "limit"), [(0, 4), (1, 1), (7, 7), (7, 1), (64, 5), (37, 12)])
    def test_loses_nothing_and_keeps_the_order(self, fault, count, limit):
        attempt, asked = _allocator(limit, FAULTS[fault])
        rows = torch.arange(count)
        assert batching.halving(attempt, rows, joined) == (rows * 10).tolist()
        assert sum(size for size in asked if size <= limit) == count

    def test_results_of_a_model_are_the_same_bits(self):
        model = subjects.frozen(subjects.Centred())
        x, y = subjects.images(model, 22)

        def attempt(rows: Tensor) -> Tensor:
            if len(rows) > 6:
                raise torch.OutOfMemoryError
            return PGD(steps=4)(
                model, x[rows], y[rows], subjects.budget("linf", 0.1, len(rows)), subjects.keys(22)[rows]
            )

        whole = PGD(steps=4)(model, x, y, subjects.budget("linf", 0.1, 22), subjects.keys(22))
        assert torch.equal(batching.halving(attempt, torch.arange(22), torch.cat), whole)

    def test_a_single_image_that_does_not_fit_is_one_line(self):
        attempt, asked = _allocator(0, FAULTS["cuda"])
        with pytest.raises(UserError, match="single image") as caught:
            batching.halving(attempt, torch.arange(5), joined)
        assert "\n" not in str(caught.value)
        assert asked == [5, 3, 2, 1]

    def test_other_errors_pass_unchanged_and_at_once(self):
        for fault in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no"), UserError("no")):
            attempt, asked = _allocator(0, lambda fault=fault: fault)
            with pytest.raises(type(fault)) as caught:
                batching.halving(attempt, torch.arange(5), joined)
            assert caught.value is fault and asked == [5]

    def test_the_memory_of_a_failed_attempt_is_free_before_the_next(self):
        held: list[weakref.ref[Tensor]] = []

        def attempt(rows: Tensor) -> int:
            gc.disable()
            assert not any(tensor() is not None for tensor in held)
            filled = torch.zeros(len(rows))
            held.append(weakref.ref(filled))
            if len(rows) > 2:
                raise torch.OutOfMemoryError
            return len(rows)

        try:
            assert batching.halving(attempt, torch.arange(8), sum) == 8
        finally:
            gc.enable()
