"""Images that are read as they are asked for: a set may hold more of them than memory does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.data.formats import Bytes

if TYPE_CHECKING:
    from torch import Tensor

HELD = 1 << 30
"""Bytes of images, four a number, up to which a set is held in memory."""


@dataclass(frozen=True)
class Lazy:
    """Images of a set, unread: see `bench.core.types.Images`.

    Args:
        read: the pixels (C, H, W) of the image at a place of the whole set.
        places: those that are meant, of the whole set (n,).
        image: (C, H, W), which all images have.
    """

    read: Callable[[int], Bytes]
    places: NDArray[np.int64]
    image: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return len(self.places), *self.image

    def __len__(self) -> int:
        return len(self.places)

    def part(self, places: Any) -> Lazy:
        """Some of them, unread."""
        return replace(self, places=self.places[places if isinstance(places, slice) else np.atleast_1d(places)])

    def __getitem__(self, places: Any) -> Tensor:
        import torch  # a list of the data sets needs none

        chosen = self.part(places).places
        pixels = np.empty((len(chosen), *self.image), np.uint8)
        for row, place in enumerate(chosen.tolist()):
            pixels[row] = self.read(place)
        return torch.from_numpy(np.divide(pixels, np.float32(255), dtype=np.float32))
