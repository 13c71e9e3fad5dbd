"""The active set of a batched attack: images that are done leave, and nothing about the others changes.

An image that is done may be carried along: nothing more of it is recorded, so that what an attack returns is the same,
bit for bit, however often images leave. The passes that it takes meanwhile are made, so they are counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.ops import norms, passes
from bench.ops.adam import Adam
from bench.ops.synchronisation import asks, compacting, steps_between

__all__ = ["COMPACT_EVERY", "Proposals", "compacting", "cut", "due", "everything", "keep", "maybe", "misclassified"]
__all__ += ["places", "remaining"]

# Leaving has a price: to drop rows the host must know how many are left, for which it waits on a GPU, and every tensor
# of the others is copied, which on a small net costs as much as a tenth of a pass. When images leave depends on the
# step alone, so that counts are the same in any batch.
COMPACT_EVERY = 8
"""Steps between two compactions on a GPU: on average, an image that is done takes 3.5 passes too many."""
# On a CPU asking is free: images leave after each of the first 8 steps, in which undefended models lose most of them,
# and after every fourth step later.
_EAGER, _PATIENT = 8, 4


def due(step: int, device: torch.device) -> bool:
    """Whether images leave after this step, counted from 0, so that the host may wait for the device."""
    every = steps_between() or (COMPACT_EVERY if device.type != "cpu" else 1 if step < _EAGER else _PATIENT)
    return (step + 1) % every == 0


def maybe(mask: Tensor) -> bool:
    """Whether a mask (n,) may be true anywhere: asked where asking is free, taken for granted where it is not."""
    return not asks(mask.device) or bool(mask.any())


def places(mask: Tensor) -> Tensor | slice | None:
    """An index of rows that holds all those where mask (n,) is true; None if there are none.

    No others where asking is free, every row where it is not: what is done with the index must heed the mask as well.
    """
    if not asks(mask.device):
        return slice(None)
    true = mask.nonzero().squeeze(1)
    return true if len(true) else None


def remaining(on: Tensor, step: int) -> Tensor | None:
    """Places (m,) of the images that go on, by a mask (n,); None if that is all of them or this step is not `due`.

    The one synchronisation of a compaction: indexing with places, unlike with a mask, needs none.
    """
    if not due(step, on.device):
        return None
    left = on.nonzero().squeeze(1)
    return None if len(left) == len(on) else left


def keep(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Each tensor (n, ...) cut to the rows where mask (n,) is true; unchanged where that is all of them."""
    left = mask.nonzero().squeeze(1)
    return tensors if len(left) == len(mask) else tuple(tensor[left] for tensor in tensors)


def cut(state: object, left: Tensor) -> None:
    """Cut every tensor, ball and Adam state that an object holds to the images at places `left` (m,)."""
    for name, value in vars(state).items():
        if isinstance(value, Tensor):
            setattr(state, name, value[left])
        elif isinstance(value, norms.Ball | Adam):
            setattr(state, name, value.keep(left))


class Proposals:
    """What an attack returns: the clean image until an adversarial one is recorded, then that one.

    For minimal attacks it keeps the smallest, by the size that the attack reports; for others the first.
    """

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.size = torch.full((len(x),), torch.inf, device=x.device)

    def record(self, rows: Tensor, candidates: Tensor, fooled: Tensor) -> None:
        """Keep the candidates (n, C, H, W) of batch places `rows` (n,) that are fooled (n,), where nothing is held."""
        self.record_smaller(rows, candidates, fooled, torch.zeros_like(fooled, dtype=self.size.dtype))

    def record_smaller(self, rows: Tensor, candidates: Tensor, fooled: Tensor, size: Tensor) -> Tensor:
        """Keep the fooled candidates that are smaller than what is held; return which (n,) were kept."""
        held = self.size[rows]
        better = fooled & (size < held)
        at = places(better)
        if at is not None:
            row, kept = rows[at], better[at]
            self.x_adv[row] = torch.where(norms.per_example(kept, candidates), candidates[at], self.x_adv[row])
            self.size[row] = torch.where(kept, size[at].to(held.dtype), held[at])
        return better

    def stands(self, rows: Tensor) -> Tensor:
        """Whether (n,) nothing is recorded yet for the images at batch places `rows` (n,)."""
        return self.size[rows].isinf()

    @property
    def missing(self) -> Tensor:
        """Places (n,) of the batch for which nothing is recorded yet."""
        return self.size.isinf().nonzero().squeeze(1)


def everything(x: Tensor) -> Tensor:
    """The places (N,) of a whole batch."""
    return torch.arange(len(x), device=x.device)


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """Whether (N,) each row of logits (N, K) is predicted as another class than y (N,); NaN predicts nothing."""
    return (logits.argmax(1) != y) & passes.tells(logits)
