"""Passes counted image by image while a search goes on, and held to a limit where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from bench.ops.counting.limit import PassesSpent, PassLimit
from bench.ops.trails import Trail


def tells(logits: Tensor) -> Tensor:
    """Whether (N,) rows of logits (N, K) tell a class: no NaN, no +infinity, and not -infinity throughout.

    A class at -infinity is one that the model rules out.
    """
    return logits.amax(1).isfinite()


class Tally:
    """Passes (N,) that each image of a batch took, and whether the model answered with NaN or infinity.

    `labels` (N,), if they are known, are the true classes of these images; `limit`, if there is one, bounds what is
    counted, and `places` (N,) are these images' in it.
    """

    def __init__(
        self,
        count: int,
        device: torch.device | str = "cpu",
        labels: Tensor | None = None,
        limit: PassLimit | None = None,
        places: Tensor | None = None,
    ) -> None:
        self.labels, self.limit = labels, limit
        self.places = torch.arange(count, device=device) if places is None else places
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.not_finite = torch.zeros(count, dtype=torch.bool, device=device)
        self.trail = Trail()

    def add(self, rows: Tensor, bad: Tensor, forwards: int, backwards: int) -> None:
        """Count some forward and backward passes for images `rows` (n,), of which `bad` (n,) met NaN or infinity.

        A place that is named several times, for several points of one image, counts as often.
        """
        self.add_each(rows, torch.full_like(rows, forwards), torch.full_like(rows, backwards), bad)

    def add_all(self, rows: Tensor, other: Tally) -> None:
        """Add what was counted for other images, which are `rows` (n,) here."""
        self.add_each(rows, other.forwards, other.backwards, other.not_finite)
        self.trail.extend(rows, other.trail)

    def add_each(self, rows: Tensor, forwards: Tensor, backwards: Tensor, bad: Tensor) -> None:
        """As `add`, with a number of passes (n,) for each."""
        # Indexed assignment would count a repeated place once.
        self.forwards.index_add_(0, rows, forwards)
        self.backwards.index_add_(0, rows, backwards)
        self.not_finite |= torch.zeros_like(self.forwards).index_add_(0, rows, bad.long()) > 0


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


@contextmanager
def counted(
    count: int,
    device: torch.device | str = "cpu",
    labels: Tensor | None = None,
    limit: PassLimit | None = None,
    places: Tensor | None = None,
) -> Iterator[Tally]:
    """Count the passes made inside the block for a batch of `count` images; see `Tally`."""
    tally = Tally(count, device, labels, limit, places)
    token = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(token)


def _at(rows: Tensor | None, x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device) if rows is None else rows


def enter(rows: Tensor | None, x: Tensor) -> None:
    """Begin a query of images x (n, C, H, W), unless none of the search can gain from it (see `PassLimit.enter`)."""
    tally = _tally.get()
    if tally is not None and tally.limit is not None:
        tally.limit.enter(tally.places[_at(rows, x)])


def count(
    rows: Tensor | None, x: Tensor, answer: tuple[object, Tensor], bad: Tensor, forwards: int, backwards: int
) -> tuple[Tally | None, Tensor | None]:
    """Count the passes of a query, and note what it found where they are limited.

    Args:
        rows: places (n,) of images x (n, C, H, W) in the batch; None means all of it, in order.
        x: the images.
        answer: what was asked, and its logits (n, K) if that is the attacked model.
        bad: which (n,) met NaN or infinity.
        forwards: the forward passes of each.
        backwards: the backward passes of each.

    Returns:
        The tally, and which (n,) of the answers count if not all do.
    """
    tally = _tally.get()
    if tally is None:
        return None, None
    rows = _at(rows, x)
    if tally.limit is None:
        tally.add(rows, bad, forwards, backwards)
        return tally, None
    places = tally.places[rows]
    heard, through, back = tally.limit.pay(places, forwards, backwards)
    tally.add_each(rows, through, back, bad & heard)
    asked, logits = answer
    # Of a method of the model the answer is features, which name no class.
    if asked is tally.limit.model and tally.labels is not None:
        tally.limit.note(places, x, heard & (logits.argmax(1) != tally.labels[rows]) & tells(logits))
    return tally, heard


def count_way(
    rows: Tensor | None, x: Tensor, logits: Tensor, y: Tensor, bad: Tensor, forwards: int, backwards: int
) -> None:
    """Count passes with a gradient, and note where the search for each image is by then."""
    limit = getattr(_tally.get(), "limit", None)
    tally, heard = count(rows, x, (limit and limit.model, logits), bad, forwards, backwards)
    if tally is not None:
        rows = _at(rows, x)
        tally.trail.see(*((rows, logits, y) if heard is None else (rows[heard], logits[heard], y[heard])))


def known_labels(rows: Tensor | None, seen: int) -> Tensor | None:
    """The labels of images at `rows` (n,), or of a whole batch of as many as were `seen`, if they are known."""
    tally = _tally.get()
    if tally is None or tally.labels is None:
        return None
    return tally.labels[:seen] if rows is None else tally.labels[rows]


@contextmanager
def among(rows: Tensor) -> Iterator[None]:
    """Inside, the places of images are counted as if the batch held those at `rows` (n,) alone."""
    outer = _tally.get()
    if outer is None:
        with counted(len(rows), rows.device):
            yield
        return
    labels = None if outer.labels is None else outer.labels[rows]
    with counted(len(rows), rows.device, labels, outer.limit, outer.places[rows]) as tally:
        try:
            yield
        finally:
            outer.add_all(rows, tally)


def charge(rows: Tensor, forwards: int, backwards: int) -> None:
    """Count passes that another library made, the same number for each image of `rows` (n,)."""
    tally = _tally.get()
    if tally is None:
        return
    through, back = torch.full_like(rows, forwards), torch.full_like(rows, backwards)
    if tally.limit is not None:
        through, back = tally.limit.take(tally.places[rows], through, back)
    tally.add_each(rows, through, back, torch.zeros_like(rows, dtype=torch.bool))


def affordable(rows: Tensor, forwards: int) -> Tensor:
    """The images of `rows` (n,) that have so many forward passes left."""
    tally = _tally.get()
    if tally is None or tally.limit is None:
        return rows
    return rows[tally.limit.left[tally.places[rows]] >= forwards]


def within_limit(search: Callable[[], Tensor], x: Tensor) -> Tensor:
    """What a search proposes for the images x (N, C, H, W) of the tally, where their passes are limited within that."""
    tally = _tally.get()
    if tally is None or tally.limit is None:
        return search()
    tally.limit.begin(tally.places)
    try:
        proposed = search()
    except PassesSpent:
        proposed = x
    return tally.limit.outcome(tally.places, proposed)
