"""What is asked of a run, and the model and images it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bench.core.samples import Choice
from bench.core.types import Checkpoint, ImageSet, Norm, Note, UserError
from bench.data import loading, sampling
from bench.evaluation.eps_order import Order
from bench.evaluation.notes import met_in_part
from bench.models import checkpoints
from bench.models.search_copy import Dtype
from bench.ops.global_random import seeded


@dataclass(frozen=True)
class Request:
    """What is asked of a run. None leaves the choice to the model's stanza; `eps` holds one entry, a sweep several.

    `n` images are taken as `sample` says (see `bench.core.samples`), all of them if it is None.

    `order` is how a sweep goes through them (see `bench.evaluation.eps_order`), `search_dtype` what attacks compute in
    (see `bench.models.search_copy`); the judge computes in float32. Attacks meet the mean of `eot` draws of a random
    model, and the gradient of what `backward` names (see `bench.models.backward`). `draws` passes settle the class of a
    random model; None means as many as the judge takes if the model is random, and one if it is not. `max_passes` is
    how many forward and backward passes an attack may take for an image at an eps (see `bench.ops.counting.limit`).
    """

    model: str
    attacks: str
    data: str | None = None
    split: str = "test"
    n: int | None = None
    sample: Choice = "auto"
    norm: Norm | None = None
    eps: Sequence[tuple[float, str]] | None = None
    order: Order = "exact"
    seed: int = 0
    batch_size: int | None = None
    device: str = "auto"
    search_dtype: Dtype = "float32"
    eot: int = 1
    draws: int | None = None
    backward: Any = None
    max_passes: int | None = None
    force: bool = False
    save_adversarial: bool = False
    data_dir: str | None = None
    command: str = ""


@dataclass(frozen=True)
class Subject:
    """A model and the images it is to be tested on."""

    model: Any
    checkpoint: Checkpoint
    sha256: str
    data: ImageSet
    exemplars: Callable[[int], tuple[Tensor, Tensor]]
    notes: tuple[Note, ...] = ()
    sample: str = ""
    data_options: Mapping[str, Any] = field(default_factory=dict)


def first_of_each_class(data: ImageSet, per_class: int) -> tuple[Tensor, Tensor]:
    """The first images of each class, in official order.

    A run takes them from the training split, or from the whole split it attacks where there is no other.
    """
    chosen = sampling.first_of_each_class(data.labels, per_class).sort().values
    return data.images[chosen], data.labels[chosen]


def subject(request: Request) -> Subject:
    """Load the model and the data that a request names.

    Raises:
        UserError: one of them cannot be had.
    """
    with seeded(None, request.seed, "model"):
        loaded = checkpoints.load(request.model)
    name = request.data or loaded.checkpoint.data
    if not name:
        raise UserError(f"model {request.model!r} names no data set: give --data (bench list data)")
    found, options = loading.fitted(loading.find(name), loaded.checkpoint.expected)
    whole = loading.of_set(found, request.split, request.data_dir)
    if request.n is not None and not 0 < request.n <= len(whole):
        raise UserError(f"-n {request.n} is not possible: {name} {request.split} has 1 to {len(whole)} images")
    data, choice = sampling.taken(whole, request.n, request.sample, request.seed)

    def exemplars(per_class: int) -> tuple[Tensor, Tensor]:
        there = "train" in found.splits
        return first_of_each_class(loading.of_set(found, "train", request.data_dir) if there else whole, per_class)

    partly = None if choice == "stratified" else met_in_part(data.labels, whole.labels)
    notes = () if partly is None else (partly,)
    return Subject(loaded.model, loaded.checkpoint, loaded.sha256, data, exemplars, notes, choice, options)
