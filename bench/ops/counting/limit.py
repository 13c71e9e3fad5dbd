"""A budget of passes for each image of a search: what its queries were worth until they had cost that much.

It bounds any attack, whatever it does, and changes none: queries past an image's budget are answered, but neither
counted nor remembered, and a search that has nothing left to learn is ended.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.types import Norm
from bench.ops import norms


class PassesSpent(BaseException):
    """No image of a search can gain anything from another query.

    Not an `Exception`: an attack that catches those must not go on.
    """


class PassLimit:
    """The passes that are left to each image (N,) of a batch, and the best of its queries that were misclassified.

    An image is done when a query is made that its passes do not pay for, or, with an eps, when it is broken: nothing
    that comes later counts. A forward pass that is paid for tells its class even if the backward pass is not.

    Args:
        model: whose answers name classes.
        x: clean images (N, C, H, W).
        norm: in which sizes are measured.
        eps: (N,), where the first query within it stands; None where the smallest of them all does.
        left: how many passes (N,) each image may take.
    """

    def __init__(self, model: object, x: Tensor, norm: Norm, eps: Tensor | None, left: Tensor) -> None:
        self.model, self.x, self.norm, self.eps = model, x.clone(), norm, eps
        self.left = left.to(x.device).clone()
        self.best = x.clone()
        self.size = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        self.over = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.searched = ~self.over

    def begin(self, rows: Tensor) -> None:
        """Start a search of the images at `rows` (n,), with the passes that are left to them."""
        self.searched = torch.zeros_like(self.over)
        self.searched[rows] = True
        self.best[rows], self.size[rows], self.over[rows] = self.x[rows], torch.inf, False

    @property
    def _done(self) -> Tensor:
        """Whether (N,) nothing more of an image counts."""
        return self.over if self.eps is None else self.over | self.size.isfinite()

    def enter(self, rows: Tensor) -> None:
        """Let a query of the images at `rows` (n,) begin.

        Raises:
            PassesSpent: no image of the search can gain from it.
        """
        self.over[rows[~self._done[rows] & (self.left[rows] < 1)]] = True
        if bool(self._done[self.searched].all()):
            raise PassesSpent

    def pay(self, rows: Tensor, forwards: int, backwards: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take passes from the images at `rows` (n,), which may name one several times.

        Returns:
            Whether (n,) the answer was paid for, and how many forward and backward passes (n,) were.
        """
        before = self.left[rows] - _turns(rows) * (forwards + backwards)
        open_ = ~self._done[rows]
        heard = open_ & (before >= forwards)
        paid = torch.where(heard, (before - forwards).clamp(0, backwards), 0)
        self.over[rows[open_ & (paid < backwards) | open_ & ~heard]] = True
        through = heard * forwards
        self.left.index_add_(0, rows, -(through + paid))
        return heard, through, paid

    def take(self, rows: Tensor, forwards: Tensor, backwards: Tensor) -> tuple[Tensor, Tensor]:
        """Take passes (n,) that were made all the same from the images at `rows` (n,): as many as are left."""
        through = torch.minimum(forwards, self.left[rows])
        back = torch.minimum(backwards, self.left[rows] - through)
        self.left[rows] -= through + back
        return through, back

    def note(self, rows: Tensor, images: Tensor, wrong: Tensor) -> None:
        """Remember queried images (n, C, H, W) of `rows` (n,) that were misclassified (n,), are lawful and better."""
        at = wrong.nonzero().squeeze(1)
        rows, images = rows[at], images[at].to(self.x)
        eps = None if self.eps is None else self.eps[rows]
        size, lawful = norms.lawful(images, self.x[rows], self.norm, eps)
        # A clean image that a cheaper copy of the model gets wrong is no find.
        better = (lawful & (size > 0) & (size < self.size[rows])).nonzero().squeeze(1)
        rows, images, size = rows[better], images[better], size[better]
        # Of several queries of one image the smallest stands, of equals the first.
        order = torch.arange(len(size), device=size.device) if self.eps is not None else size.argsort(stable=True)
        first = order[_turns(rows[order]) == 0]
        self.best[rows[first]], self.size[rows[first]] = images[first], size[first]

    def outcome(self, rows: Tensor, proposed: Tensor) -> Tensor:
        """What a search found for the images at `rows` (n,): its proposals, or the best queries of those that are done.

        The clean image where those have none.
        """
        taken = self._done[rows]
        return torch.where(norms.per_example(taken, proposed), self.best[rows], proposed.to(self.best))


def _turns(rows: Tensor) -> Tensor:
    """How many times (n,) each entry of rows (n,) stood before it."""
    order = rows.argsort(stable=True)
    among = rows[order]
    turns = torch.empty_like(rows)
    turns[order] = torch.arange(len(rows), device=rows.device) - torch.searchsorted(among, among)
    return turns
