"""A grid of eps: which of them an image meets next, and what a verdict at one tells of the others.

Start noise is keyed to the image, not to eps, so what is run gives the same verdict in each order.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Order = Literal["independent", "exact", "bisect"]
"""How an image goes through the eps of a grid.

- `independent`: every eps is run for every image, as in separate runs.
- `exact`: an image meets the eps in ascending order, and once it is broken it counts as broken at every larger one,
  with the same adversarial example, which lies in the larger ball too. Nothing is assumed.
- `bisect`: an image meets the middle one of those still open, and one that was not broken counts as robust at every
  smaller eps. This assumes that the attack does not fail at an eps where it succeeds at a smaller one.
"""
ORDERS: tuple[Order, ...] = get_args(Order)


def upcoming(unsettled: Tensor, order: Order) -> tuple[Tensor, Tensor]:
    """The places (m,) of the images and of the eps to run next, of trials `unsettled` (N, L), eps ascending."""
    if order == "independent":
        image, level = unsettled.nonzero(as_tuple=True)
        return image, level
    left = unsettled.sum(1)
    wanted = torch.zeros_like(left) if order == "exact" else (left - 1) // 2
    rank = unsettled.cumsum(1) - 1
    level = ((rank == wanted[:, None]) & unsettled).int().argmax(1)
    image = left.nonzero().squeeze(1)
    return image, level[image]


def implied(unsettled: Tensor, level: Tensor, broken: Tensor, order: Order) -> tuple[Tensor, Tensor]:
    """What verdicts at `level` (N,) say of unsettled trials (N, L): which are broken too, and which robust."""
    if order == "independent":
        nothing = torch.zeros_like(unsettled)
        return nothing, nothing
    places = torch.arange(unsettled.shape[1])
    above = unsettled & (places > level[:, None]) & broken[:, None]
    below = unsettled & (places < level[:, None]) & ~broken[:, None]
    return above, below if order == "bisect" else torch.zeros_like(below)
