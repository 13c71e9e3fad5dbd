"""The form in which attacks meet a model that draws random numbers or lacks a gradient: one place for every attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bench.core.types import Classifier, UserError
from bench.models.backward import Backward
from bench.ops.draws import Averaged

MOST_DRAWS = 10_000


@dataclass(frozen=True)
class SearchForm:
    """How attacks meet a model: the mean of `eot` draws if it is `random`, the gradient of `backward` if there is one.

    Values stay the model's own. A model that is neither is met as it is, to the bit.
    """

    eot: int = 1
    random: bool = False
    backward: Backward | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.eot, int) or not 1 <= self.eot <= MOST_DRAWS:
            raise UserError(f"eot {self.eot!r} is not possible: average 1 to {MOST_DRAWS} draws")

    def of(self, model: Classifier, images: Tensor) -> Classifier:
        """That form of a prepared model; `images` (n, C, H, W) are a few to try it on.

        Raises:
            UserError: the stand-in does not fit the model.
        """
        form = model if self.backward is None else self.backward.of(model, images)
        return Averaged(form, self.eot) if self.random else form
