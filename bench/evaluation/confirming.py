"""Finds on a random model that a search would not make again: looked for once more, with more distance to the boundary.

A search stops at the first point that its draws call misclassified, and so prefers points where they were lucky.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.core import verdicts
from bench.core.types import Classifier
from bench.evaluation.judge import predictions
from bench.ops import draws, passes

_SURE = 0.75
"""The share of fresh draws that must be misclassified: then more than half of ten others are, in 92 cases of 100."""
_CAUTION = 1.0
"""Standard deviations of a draw's margin by which the second search must pass the boundary."""


def surer(model: Classifier, x: Tensor, x_adv: Tensor, y: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
    """Proposals (N, C, H, W) of which fewer would be denied; those of a model whose draws are averaged, else as given.

    Proposals that draws of their own do not bear out are searched for a second time, by a search that is content with
    points well past the boundary alone; the one that more draws misclassify stands. The judge, whose draws are others,
    has no part in it.

    Args:
        model: what the search met.
        x: clean images (N, C, H, W).
        x_adv: what it proposed; the clean image where it failed.
        y: labels (N,).
        again: the search of images at places (n,) of the batch.
    """
    random = draws.averaged(model)
    if random is None or random.draws == 1:
        return x_adv
    share = _share(random, x, x_adv, y)
    unsure = ((share >= 0) & (share < _SURE)).nonzero().squeeze(1)
    if not len(unsure):
        return x_adv
    with random.cautious(_CAUTION):
        second = again(unsure)
    better = unsure[_share(random, x[unsure], second, y[unsure], unsure) > share[unsure]]
    place = torch.full((len(x),), -1, device=x.device)
    place[unsure] = torch.arange(len(unsure), device=x.device)
    result = x_adv.clone()
    result[better] = second[place[better]]
    return result


def _share(model: draws.Averaged, x: Tensor, x_adv: Tensor, y: Tensor, places: Tensor | None = None) -> Tensor:
    """The share (N,) of fresh draws that misclassify each proposal; -1 where there is none."""
    changed = (x_adv != x).flatten(1).any(1).nonzero().squeeze(1)
    # Where passes are limited, a proposal that none are left to look at stands.
    kept = passes.affordable(changed if places is None else places[changed], model.draws)
    changed = changed[torch.isin(changed if places is None else places[changed], kept)]
    share = torch.full((len(x),), -1.0, device=x.device)
    if len(changed):
        votes = list(draws.each(model, lambda: predictions(passes.reference_outputs(model, x_adv[changed]))))
        wrong = torch.stack([verdicts.misclassified(y[changed], vote) for vote in votes])
        share[changed] = wrong.float().mean(0)
        passes.charge(changed if places is None else places[changed], model.draws, 0)
    return share
