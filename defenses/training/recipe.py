"""A recipe: everything that decides a training, read from TOML into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.core.eps import parse_eps, threat_model
from bench.core.fields import bounded
from bench.core.registry import defenses, suggestion
from bench.core.types import Norm, ThreatModel
from defenses.defense import Defense
from defenses.training.parsing import fault, part_of, raw_recipe


@dataclass(frozen=True)
class ModelPart:
    """[model]: an architecture of `bench.core.registry.architectures` and its arguments."""

    arch: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataPart:
    """[data]: the training split, its augmentation, and how much of it is held out.

    `held_out` training images are never trained on; the periodic evaluation uses them, never the test split. `limit`
    takes only the first images. Crops are cut from images padded by `crop_padding` with `crop_fill`.
    """

    name: str
    held_out: int = 0
    limit: int | None = bounded(None, low=1)
    crop_padding: int = bounded(0, low=0, high=256)
    crop_fill: float = bounded(0.0, low=0, high=1)
    flip: bool = False


@dataclass(frozen=True)
class TrainPart:
    """[train]: the optimiser, its schedule in epochs, and what is kept.

    Attributes:
        decay_on: kernels leaves biases and normalisation out of weight decay.
        warmup: epochs in which the learning rate rises linearly from zero.
        keep: best takes the epoch with the best held-out PGD accuracy (clean accuracy without a threat model).
        store: the precision of the written weights.
        mixed_precision: compute in bfloat16; auto does on CUDA only.
    """

    epochs: int = bounded(low=1)
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = bounded(0.1, above=0)
    momentum: float = bounded(0.9, low=0, high=1)
    weight_decay: float = 0.0
    decay_on: Literal["all", "kernels"] = "all"
    schedule: Literal["constant", "milestones", "cosine"] = "constant"
    milestones: tuple[float, ...] = ()
    factor: float = bounded(0.1, above=0)
    warmup: float = 0.0
    seed: int = 0
    keep: Literal["best", "last"] = "last"
    store: Literal["float32", "float16"] = "float32"
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class EvaluationPart:
    """[evaluation]: PGD on the held-out images every `every` epochs; without `eps`, the defense's threat model."""

    every: int = 5
    norm: Norm = "linf"
    eps: str | None = None
    steps: int = bounded(20, low=0)
    step_size: str | None = None


@dataclass(frozen=True)
class PaperPart:
    """[paper]: where the settings come from, what is ours, and the numbers to expect (percent)."""

    source: str
    expect: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; `path` says where it was read, `settings` what `--set` changed."""

    name: str
    model: ModelPart
    data: DataPart
    defense_name: str
    defense: Defense
    train: TrainPart
    evaluation: EvaluationPart
    paper: PaperPart
    path: str = ""
    settings: tuple[str, ...] = ()

    def threat(self) -> ThreatModel | None:
        """The threat model of the periodic evaluation, or None for clean accuracy alone."""
        if self.evaluation.eps is None:
            return self.defense.threat()
        return threat_model(self.evaluation.norm, parse_eps(self.evaluation.eps), self.evaluation.eps)


def _check(recipe: Recipe) -> None:
    """Hold the parts of a recipe to each other; what concerns one key alone is in the bounds of its field."""
    train, data = recipe.train, recipe.data
    if train.warmup >= train.epochs:
        raise fault("train.warmup", f"is {train.warmup}, all of {train.epochs} epochs", "give fewer")
    if train.keep == "best" and not data.held_out:
        raise fault("train.keep", "is best without held-out images", "set data.held_out, or keep = last")
    for name, number in recipe.paper.expect.items():
        if isinstance(number, int | float) and number < 0:
            raise fault(f"paper.expect.{name}", f"is {number}", "give a number of at least 0")
    if recipe.evaluation.step_size is not None:
        parse_eps(recipe.evaluation.step_size)
    recipe.threat()


def load(named: str, settings: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by its path or by the name of a built-in one, with `key=value` settings on top.

    Raises:
        UserError: no such recipe, an unknown key (its neighbours are suggested), or a value of the wrong kind.
    """
    table, path = raw_recipe(named, settings)
    chosen = table.pop("defense", {})
    defense_name = chosen.get("name") if isinstance(chosen, Mapping) else None
    if not isinstance(defense_name, str):
        raise fault("defense.name", "is missing", "name one (python -m defenses list)")
    parts: dict[str, tuple[type, Any]] = {
        "model": (ModelPart, table.pop("model", {})),
        "data": (DataPart, table.pop("data", {})),
        "train": (TrainPart, table.pop("train", {})),
        "evaluation": (EvaluationPart, table.pop("evaluation", {})),
        "paper": (PaperPart, table.pop("paper", {})),
    }
    name = table.pop("name")
    for key in table:
        raise fault(key, "is unknown", suggestion(key, sorted([*parts, "defense", "extends", "name"])))
    built: dict[str, Any] = {key: part_of(part, content, key) for key, (part, content) in parts.items()}
    own = {key: value for key, value in chosen.items() if key != "name"}
    defense = part_of(defenses[defense_name], own, "defense")
    recipe = Recipe(name, **built, defense_name=defense_name, defense=defense, path=path, settings=settings)
    _check(recipe)
    return recipe
