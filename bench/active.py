"""The active set of a batched attack: images that are done leave, and nothing about the others changes."""

from __future__ import annotations

import torch
from torch import Tensor


def keep(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor (n, ...) cut to the rows where mask (n,) is true; unchanged where that is all of them."""
    return tensors if bool(mask.all()) else tuple(tensor[mask] for tensor in tensors)


class Found:
    """What an attack returns: the clean image until an adversarial one is recorded, then that one.

    For minimal attacks it keeps the smallest, by the size that the attack reports.
    """

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.size = torch.full((len(x),), torch.inf, device=x.device)

    def record(self, rows: Tensor, candidates: Tensor, fooled: Tensor) -> None:
        """Keep the candidates (n, C, H, W) of batch places `rows` (n,) that are fooled (n,)."""
        self.x_adv[rows[fooled]] = candidates[fooled]
        self.size[rows[fooled]] = 0

    def record_smaller(self, rows: Tensor, candidates: Tensor, fooled: Tensor, size: Tensor) -> Tensor:
        """Keep the fooled candidates that are smaller than what is held; return which (n,) were kept."""
        better = fooled & (size < self.size[rows])
        self.x_adv[rows[better]] = candidates[better]
        self.size[rows[better]] = size[better].to(self.size.dtype)
        return better

    @property
    def missing(self) -> Tensor:
        """Places (n,) of the batch for which nothing is found yet."""
        return self.size.isinf().nonzero().squeeze(1)


def everything(x: Tensor) -> Tensor:
    """The places (N,) of a whole batch."""
    return torch.arange(len(x), device=x.device)


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Whether (N,) each row of logits (N, K) is predicted as another class than y (N,); NaN predicts nothing."""
    return (logits.argmax(1) != y) & logits.isfinite().all(1)
