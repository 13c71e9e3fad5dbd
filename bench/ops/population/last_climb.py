"""The last climb of a population: its best points, if they are nearly misclassified, from linear piece to piece."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.core.types import Classifier
from bench.ops import active_set, draws, passes
from bench.ops.active_set import Proposals
from bench.ops.counting.direct_calls import through_passes
from bench.ops.pieces.held import HeldNet, is_affine
from bench.ops.pieces.programme import polished
from bench.ops.population.crowd import Crowd

_NEAR = 0.02
"""How far below zero a margin may be, in standard deviations of its image's logits: programmes gain less than this."""
_POINTS = 2
"""Points of an image that climb."""


def climb_pieces(model: Classifier, crowd: Crowd, pieces: int, proposals: Proposals) -> None:
    """Climb from the best points of each image through at most so many pieces, and record what is misclassified.

    Nothing is done in norms other than linf, for a model that draws random numbers, and for a net that is not affine
    with its ReLUs held.
    """
    if not pieces or crowd.ball.bounds is None or draws.averaged(model) is not None:
        return
    for place, row in enumerate(crowd.rows.unbind()):
        net = HeldNet(model, int(crowd.y[place]), int(crowd.target[place]))
        for better in _climbed(net, crowd, place, pieces):
            logits = passes.outputs(model, better, rows=row[None])
            proposals.record(row[None], better, active_set.misclassified(logits, crowd.y[place : place + 1]))
            if not bool(proposals.stands(row[None])):
                break
    left = proposals.stands(crowd.rows).nonzero().squeeze(1)
    if len(left) < len(crowd):
        active_set.cut(crowd, left)


def _climbed(net: HeldNet, crowd: Crowd, place: int, pieces: int) -> Iterator[Tensor]:
    """Where an image's best points lead, one after the other; the passes that each took are charged before."""
    low, high = (bound[place : place + 1] for bound in crowd.ball.bounds or ())
    points, values = crowd.z[place][:_POINTS], crowd.value[place][:_POINTS]
    for z, value in zip(torch.split(points, 1), values.tolist(), strict=True):
        with through_passes(), torch.no_grad():
            spread = float(net.model(z).std())
        net.forwards += 1
        near = value > -_NEAR * spread
        with through_passes():
            better = polished(net, z, low, high, pieces) if near and is_affine(net, z) else None
        passes.charge(crowd.rows[place : place + 1], net.forwards, net.backwards)
        net.forwards = net.backwards = 0
        if better is None:
            return
        yield better
