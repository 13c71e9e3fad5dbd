"""A model that draws random numbers, as attacks see it: the mean of several draws (Athalye et al. 2018, EOT)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.ops import losses
from bench.ops.global_random import seeded

OUTPUTS = ("features", "classify")
"""Methods of a model, besides the call itself, that take images or features and are random if the model is."""


class Delegate(nn.Module):
    """A module around a model that has the model's methods and attributes too.

    A subclass says in `answer` what calling the model, or one of its `OUTPUTS`, gives.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        # Not registered as a submodule if it is none: a plain function may be attacked too.
        self.inner = model

    def answer(self, name: str, x: Tensor) -> Tensor:
        """What `name` ("__call__" or one of `OUTPUTS`) gives for x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.answer("__call__", x)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            return super().__getattr__(name)
        value = getattr(self.inner, name)
        return Answers(self, name) if name in OUTPUTS else value


class Answers:
    """One of a delegate's `OUTPUTS`, to be called with images or features."""

    def __init__(self, owner: Delegate, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, x: Tensor) -> Tensor:
        """What the owner answers."""
        return self.owner.answer(self.name, x)


class Averaged(Delegate):
    """A random model as the mean of `draws` passes: of logits without a gradient, of an objective with one.

    `bench.ops.passes` averages an objective's values, logits and gradients over whole passes, so that no more than one
    is held in memory. Logits are averaged, not probabilities: losses on logits keep their meaning, and a saturated
    softmax has no gradient to average.

    Before each draw the global generators are seeded by the run's seed, the attack's name, the number of the call
    within the attack, and the draw; afterwards they are as they were. A module that draws for a whole batch gives an
    image what its place in the batch brings: its noise is the same in every run with this batch size, but not in
    another batch. What it draws once a call (a size, an offset) is the same in any batch.
    """

    def __init__(self, model: Any, draws: int) -> None:
        super().__init__(model)
        self.draws = draws
        self.caution = 0.0
        self.begin("")

    def begin(self, *key: object) -> None:
        """Start an attack's draws anew: the same key, the same draws."""
        self.key, self.calls, self.within = key, 0, False

    @contextmanager
    def drawing(self, call: int, draw: int) -> Iterator[None]:
        """Inside, the model is called as it is, in one draw."""
        self.within, before = True, self.within
        try:
            with seeded(self.inner, *self.key, call, draw):
                yield
        finally:
            self.within = before

    @contextmanager
    def cautious(self, caution: float) -> Iterator[None]:
        """Inside, an image counts as misclassified only `caution` standard deviations of a draw past the boundary."""
        self.caution, before = caution, self.caution
        try:
            yield
        finally:
            self.caution = before

    def decided(self, logits: Tensor, draws: Sequence[Tensor], y: Tensor | None) -> Tensor:
        """Mean logits (N, K) of `draws` as decisions on labels y (N,) see them, if these are known."""
        if not self.caution or y is None or len(draws) < 2:
            return logits
        spread = torch.stack([losses.margin(draw, y) for draw in draws]).std(0)
        return logits.scatter_add(1, y[:, None], self.caution * spread[:, None])

    def answer(self, name: str, x: Tensor) -> Tensor:
        """The mean of the draws, or one draw inside `drawing`."""
        call = self.inner if name == "__call__" else getattr(self.inner, name)
        if self.within:
            result: Tensor = call(x)
            return result
        return mean(list(each(self, lambda: call(x))))


def averaged(call: object) -> Averaged | None:
    """The averaged model that a call goes to, if any."""
    owner = call.owner if isinstance(call, Answers) else call
    return owner if isinstance(owner, Averaged) else None


def begin(call: object, *key: object) -> None:
    """Start the draws of an averaged model anew, by a key; nothing is done to any other."""
    model = averaged(call)
    if model is not None:
        model.begin(*key)


def count(call: object) -> int:
    """How many passes a call stands for."""
    model = averaged(call)
    return 1 if model is None or model.within else model.draws


def each(model: object, once: Callable[[], Any]) -> Iterator[Any]:
    """What `once` gives in each draw of an averaged model; once for any other."""
    random = averaged(model)
    if random is None or random.within:
        yield once()
        return
    random.calls += 1
    for draw in range(random.draws):
        with random.drawing(random.calls, draw):
            result = once()
        yield result


def decided(call: object, draws: Sequence[Tensor], y: Tensor | None) -> Tensor:
    """The mean of what draws gave; of logits, as decisions on labels y (N,) see them (see `Averaged.decided`)."""
    logits = mean(draws)
    return call.decided(logits, draws, y) if isinstance(call, Averaged) else logits


def mean(draws: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape; the tensor itself where there is one."""
    return torch.stack([*draws]).mean(0) if len(draws) > 1 else draws[0]
