"""How an attack's search went: the best margin of each image at five points of its way, for whoever doubts it."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.ops import losses

POINTS = 5
_HELD = 1 << 20
"""Logits that are kept before their margins are taken: together they cost less than one by one."""


class Trail:
    """The margins that images of a batch had at each pass with a gradient, in order."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self._margins: list[tuple[Tensor, Tensor]] = []
        self._held = 0

    def see(self, rows: Tensor, logits: Tensor, y: Tensor) -> None:
        """Note the logits (n, K) of images at `rows` (n,), whose labels are y (n,)."""
        self._seen.append((rows, logits, y))
        self._held += logits.numel()
        if self._held > _HELD:
            self._settle()

    def extend(self, rows: Tensor, other: Trail) -> None:
        """Go on with what another trail saw of images that are `rows` (n,) here."""
        other._settle()
        self._settle()
        self._margins += [(rows[places], margins) for places, margins in other._margins]

    def points(self, count: int) -> Tensor:
        """The best margin so far (count, 5) at the start, after each quarter and at the end of each image's way.

        On the CPU; NaN for images that were never seen.
        """
        self._settle()
        result = torch.full((count, POINTS), torch.nan)
        if not self._margins:
            return result
        rows, margins = (torch.cat(parts).cpu() for parts in zip(*self._margins, strict=True))
        order = rows.argsort(stable=True)
        for image, way in zip(*_ways(rows[order], margins[order]), strict=True):
            places = torch.linspace(0, len(way) - 1, POINTS).floor().long()
            result[image] = way.nan_to_num(-torch.inf).cummax(0).values[places].float()
        return result

    def _settle(self) -> None:
        """Take the margins of the logits that are kept."""
        for rows, logits, y in self._seen:
            self._margins.append((rows, losses.margin(logits, y)))
        self._seen, self._held = [], 0


def _ways(rows: Tensor, margins: Tensor) -> tuple[list[int], list[Tensor]]:
    """The images in sorted rows (n,), and the margins of each."""
    images, counts = torch.unique_consecutive(rows, return_counts=True)
    return images.tolist(), list(torch.split(margins, counts.tolist()))
