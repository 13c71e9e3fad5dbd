"""Work on a batch a few rows at a time: many sweeps over a little are faster on a CPU than many sweeps over much.

A whole batch leaves the cache between two operations, and each then waits for memory, which on small nets costs more
than the model does. A GPU takes everything at once.
"""

from __future__ import annotations

import torch

NUMBERS = 2**16
"""How many entries of a tensor a part has, about: some ten tensors of them fit in a core's cache."""


def parts(rows: int, width: int, device: torch.device, numbers: int = NUMBERS) -> list[slice]:
    """Slices that cut `rows` rows of `width` entries each into parts; a single one, of all, where that is faster."""
    size = max(numbers // max(width, 1), 1) if device.type == "cpu" else max(rows, 1)
    return [slice(at, at + size) for at in range(0, max(rows, 1), size)]
