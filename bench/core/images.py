"""Images as data sets hold them, and as models expect them. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Images(Protocol):
    """Images (N, C, H, W) float32 in [0, 1]: a tensor, or what reads those that it is asked for.

    What reads has a method `part(places)` too, which gives some of them unread.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, places: Any, /) -> Tensor:
        """Those at some places, a slice or a tensor (n,), read."""
        ...


@dataclass(frozen=True)
class Expected:
    """What a model's own configuration says of the images that it was made for.

    Args:
        transform: how files become its images: fields of `bench.data.transform.Transform`.
        classes: the name of each class that it tells apart, in order.
    """

    transform: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
