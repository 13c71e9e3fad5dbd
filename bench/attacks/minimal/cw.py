"""Carlini and Wagner's l2 attack: Adam on size plus c times the margin, and a search for c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import attacks
from bench.core.types import Budget, Classifier, Norm
from bench.ops import active_set, adam, losses, minimum_norm, norms, passes, tiling
from bench.ops.active_set import Proposals
from bench.ops.adam import Adam

# The tanh covers a little more than the box, so that pixels of exactly 0 and 1 have a near preimage and a real slope:
# with the original's 0.999999, hundreds of steps go by before such a pixel has moved at all.
_INSIDE = 0.95


def free(x: Tensor) -> Tensor:
    """The unbounded variable w of images x in [0, 1]. Through a logarithm: torch's atanh rounds by position."""
    u = (2 * x.double() - 1) * _INSIDE
    return (((1 + u) / (1 - u)).log() / 2).to(x.dtype)


def boxed(tanh_w: Tensor) -> Tensor:
    """The image in [0, 1] of tanh(w)."""
    return (tanh_w * (0.5 / _INSIDE) + 0.5).clamp(0, 1)


@dataclass
class _Search:
    """Where each active image stands: one row an image in every field."""

    rows: Tensor
    x: Tensor
    y: Tensor
    c: Tensor
    low: Tensor
    high: Tensor
    searches: Tensor
    start: Tensor
    w: Tensor
    adam: Adam
    succeeded: Tensor
    lowest: Tensor
    checked: Tensor

    @classmethod
    def begin(cls, x: Tensor, y: Tensor, c0: float) -> _Search:
        none = torch.zeros(len(x), device=x.device, dtype=x.dtype)
        infinite, start = torch.full_like(none, torch.inf), free(x)
        return cls(
            rows=active_set.everything(x),
            x=x,
            y=y,
            c=torch.full_like(none, c0),
            low=none,
            high=infinite,
            searches=none.long(),
            start=start,
            w=start.clone(),
            adam=Adam.begin(x),
            succeeded=none.bool(),
            lowest=infinite.clone(),
            checked=infinite.clone(),
        )

    def next_constant(self, over: Tensor) -> None:
        """Choose the next c of the images `over` (n,) by their last search, and start again from the clean image."""
        self.high = torch.where(over & self.succeeded, self.high.minimum(self.c), self.high)
        self.low = torch.where(over & ~self.succeeded, self.low.maximum(self.c), self.low)
        following = torch.where(self.high.isinf(), self.c * 10, (self.low + self.high) / 2)
        self.c = torch.where(over, following, self.c)
        self.searches = self.searches + over
        self.w = torch.where(norms.per_example(over, self.w), self.start, self.w)
        self.adam.restart(over)
        self.succeeded.masked_fill_(over, False)
        self.lowest.masked_fill_(over, torch.inf)
        self.checked.masked_fill_(over, torch.inf)

    def descend(self, t: Tensor, delta: Tensor, gradient: Tensor, pull: Tensor, lr: float) -> None:
        """One step of Adam on w, with each image's own count of steps.

        The loss is |delta|^2 - pull * margin for delta (n, C, H, W) and pull (n,); `gradient` is the margin's, t the
        tanh of w. All three images are used up.
        """
        self.adam.count += 1
        first, second = self.adam.corrections()
        rate = norms.per_example((lr / first).to(t.dtype), t)
        spread = norms.per_example(second.rsqrt().to(t.dtype), t)
        pull = norms.per_example(pull, t)
        for cut in tiling.parts(len(t), t[:1].numel(), t.device):
            slope = t[cut].square_().neg_().add_(1).mul_(0.5 / _INSIDE)
            downhill = delta[cut].mul_(2).sub_(gradient[cut].mul_(pull[cut])).mul_(slope)
            mean, square = self.adam.add_part(cut, downhill)
            root = square.sqrt().mul_(spread[cut]).add_(adam.TINY)
            self.w[cut].sub_((mean * rate[cut]).div_(root))


@attacks.register("cw")
@dataclass(frozen=True)
class CW:
    """Carlini and Wagner's l2 attack (2017, section V), untargeted.

    Minimises |x' - x|^2 + c max(z_y - max z_k + confidence, 0) by Adam on w, where x' is a scaled tanh of w. c grows
    tenfold until an image is adversarial, then is bisected; each search starts from the clean image.

    Args:
        searches: values of c.
        steps: steps of a search; the original takes 10 000.
        lr: Adam's rate.
        c0: the first c.
        confidence: the least margin in logits of an image that counts.
        abort_early: each image, not the batch, ends its search when its lowest loss fell by less than 0.01 % in a tenth
            of the steps.
        refine: bisections at the end between the adversarial image and the clean one, which are not in the paper.

    Deviations:
    - the tanh is stretched by 5 % and clipped, so that pixels of exactly 0 and 1 start unchanged and can move;
    - c weighs logits, so its range depends on their scale: where the margin's gradient at the clean image is shorter
      than 0.001 or longer than 10 000, c counts as if it had the length 1 or 10.
    """

    searches: int = bounded(9, low=1)
    steps: int = bounded(1000, low=1)
    lr: float = bounded(0.01, above=0)
    c0: float = bounded(1e-3, above=0)
    confidence: float = bounded(0.0, low=0)
    abort_early: bool = True
    refine: int = bounded(0, low=0)

    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    minimal: ClassVar[bool] = True

    def over(self, state: _Search) -> Tensor:
        """Whether (n,) each image's search for its present c is over: out of steps, or without progress."""
        over = state.adam.count >= self.steps
        if not self.abort_early:
            return over
        due = state.adam.count % max(1, self.steps // 10) == 0
        stalled = due & ~(state.lowest <= 0.9999 * state.checked)
        state.checked = torch.where(due, state.lowest, state.checked)
        return over | stalled

    def advance(self, model: Classifier, state: _Search, proposals: Proposals, first: bool) -> None:
        """One forward and one backward pass: record what is adversarial, then move every image.

        The `first` one sees the clean images, and sets the unit of c.

        Nothing is recorded of an image that has made all its searches and waits for the others to leave with it.
        """
        t = state.w.tanh()
        z = boxed(t)
        margin, logits, gradient = passes.input_gradient(losses.logit_margin, model, z, state.y, rows=state.rows)
        delta = z - state.x
        size = norms.size(delta, "l2")
        if first:
            state.c = state.c / norms.scale(gradient)
        # Where a search starts there is the clean image, but for its rounding: what is wrong there is no find.
        enough = minimum_norm.fools(logits, state.y, self.confidence) & (state.adam.count > 0)
        proposals.record_smaller(state.rows, z, enough & (state.searches < self.searches), size)
        state.succeeded |= enough
        hinge = (self.confidence - margin).clamp_min(0)
        state.lowest = state.lowest.minimum(size.square() + state.c * hinge)
        state.descend(t, delta, gradient, torch.where(hinge > 0, state.c, 0), self.lr)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        proposals, state = Proposals(x), _Search.begin(x, y, self.c0)
        wrong = active_set.misclassified(passes.outputs(model, x, rows=state.rows), y)
        proposals.record(state.rows, x, wrong)
        active_set.cut(state, (~wrong).nonzero().squeeze(1))
        for step in range(self.searches * max(self.steps, 1)):
            if not len(state.rows):
                break
            self.advance(model, state, proposals, first=step == 0)
            over = self.over(state)
            if active_set.maybe(over):
                state.next_constant(over)
            left = active_set.remaining(state.searches < self.searches, step)
            if left is not None:
                active_set.cut(state, left)
        minimum_norm.toward_clean(model, x, y, proposals, "l2", self.refine, self.confidence)
        return proposals.x_adv
