"""The words every module shares. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from bench.core.images import Expected, Images
from bench.core.text import shortened

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")

NOT_FINITE = -1
"""`adv_pred` of a row whose search or judgement met NaN or infinity: no evidence of robustness."""

CLEAN = "clean"
"""What stands in the column `attack` of a probe's table for the clean images."""


class UserError(Exception):
    """A fault that the caller can correct; its text is one line: thing, fault, remedy.

    `status` is what a command that ends with it exits with. `partial` is the run that `bench.evaluate` had made of the
    attacks before the one at fault, if any.
    """

    status: ClassVar[int] = 2
    partial: Any = None

    def __init__(self, text: str = "") -> None:
        super().__init__(shortened(text))


@dataclass(frozen=True)
class Note:
    """What is worth knowing of a model before its numbers are believed: a name that `run.json` lists, and a line."""

    name: str
    text: str


@dataclass(frozen=True)
class ThreatModel:
    """What a run is asked: a norm and a budget, or eps None for the smallest perturbation.

    `written` keeps eps as it was typed ("8/255"), because 0.031 is not 8/255.
    """

    norm: Norm
    eps: float | None
    written: str = ""


@dataclass(frozen=True)
class Budget:
    """What an attack is given: a norm and one eps (N,) an example, or None for a minimal attack."""

    norm: Norm
    eps: Tensor | None

    def bound(self, attack: str) -> Tensor:
        """Return eps (N,).

        Raises:
            UserError: there is none.
        """
        if self.eps is None:
            raise UserError(f"{attack} needs a budget: give an eps")
        return self.eps


class Classifier(Protocol):
    """Maps images (N, C, H, W) in [0, 1] to logits (N, K)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Logits (N, K)."""
        ...


class HasFeatures(Classifier, Protocol):
    """A classifier cut in two: `model(x) == model.classify(model.features(x))`."""

    def features(self, x: Tensor, /) -> Tensor:
        """Images (N, C, H, W) to features (N, D)."""
        ...

    def classify(self, z: Tensor, /) -> Tensor:
        """Features (N, D) to logits (N, K)."""
        ...


class HasCenters(HasFeatures, Protocol):
    """A classifier whose classes have preset or learned centers in feature space."""

    def class_centers(self) -> Tensor:
        """Centers (K, D)."""
        ...


Objective = Callable[..., "tuple[Tensor, Tensor]"]
"""(model, x, y, *references) -> (values (N,), logits (N, K)) in one forward pass; an attacker climbs the values.

References are per-example tensors with a leading N (clean features, targets, ...), so that a caller may drop examples.
"""


class Attack(Protocol):
    """Proposes adversarial examples; never judges them.

    A frozen dataclass whose fields are its parameters (see `bench.core.fields.bounded`); it keeps no state. A field
    with metadata {"bound": True} is filled by `bind(scene)`, not by the user; with "recorded" too it stands beside the
    fields in `run.json`. An ensemble has a method `stages(norm)`
    too: names and attacks to run in turn on what is left, with rows of their own.

    Attributes:
        needs: the methods that the model must have.
        norms: the norms it can work in, the preferred one first.
        minimal: whether it looks for the smallest perturbation and ignores eps.

    More are optional: `gradient_free = True` says that it uses no gradient of the model, `fewest_classes` how many
    classes it needs, `points` how many points of an image it puts through the model at once, if that is not one.
    """

    needs: ClassVar[tuple[str, ...]]
    norms: ClassVar[tuple[Norm, ...]]
    minimal: ClassVar[bool]

    def __call__(self, model: Any, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W) in [0, 1]; a failed example returns its clean image."""
        ...


class Scene(Protocol):
    """What an attack may ask for before a run, through an optional `bind(scene) -> Attack` method."""

    @property
    def classes(self) -> int:
        """The number of classes that the model tells apart."""
        ...

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        """Clean reference images and labels, `per_class` of each class, the same for every run on a data set."""
        ...

    def surrogate(self, name: str) -> Classifier:
        """Another model of the registry, ready to be attacked."""
        ...

    def softens(self) -> str:
        """The activations that a softened backward pass reaches, with their number; "" for none."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Labelled images in their official order, or in another that `order` names.

    `images` (N, C, H, W) float32 in [0, 1], of large sets read as they are asked for: index them; `labels` (N,) int64;
    `indices` (N,) int64, the place of each image in the whole split; `sha256` of the whole split's content, whatever
    part of it is held here.
    """

    name: str
    split: str
    images: Images
    labels: Tensor
    indices: Tensor
    sha256: str
    classes: tuple[str, ...]
    order: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, places: Tensor | slice) -> ImageSet:
        """The images at these places of this set; they keep their official indices."""
        part = getattr(self.images, "part", self.images.__getitem__)
        return replace(self, images=part(places), labels=self.labels[places], indices=self.indices[places])

    @property
    def is_read_later(self) -> bool:
        """Whether its images are read as they are asked for: files of bytes, which lie in [0, 1]."""
        return hasattr(self.images, "part")

    def loaded(self) -> ImageSet:
        """The same with its images in memory."""
        return replace(self, images=self.images[:])


@dataclass(frozen=True)
class Verdict:
    """One row of `verdicts.csv`: what became of one image under one attack at one eps."""

    index: int
    label: int
    clean_pred: int
    attack: str
    norm: Norm
    eps: float | None
    adv_pred: int
    size: float
    lawful: bool
    broken: bool
    forwards: int
    backwards: int


@dataclass(frozen=True)
class Checkpoint:
    """A stanza of `checkpoints.toml`: everything needed to load one trained model and to attack it fairly.

    Fields are its keys, but for `name`, its header, and `home`, the folder of its file. Once the model is loaded,
    `origin` says where it came from and how images are given to it, and `expected` what its own configuration says of
    images.
    """

    name: str = field(metadata={"bound": True})
    arch: str
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    sha256: str = ""
    data: str = ""
    defense: str = ""
    paper: str = ""
    trained_for: ThreatModel | None = None
    trained_with: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    command: str = ""
    published: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    normalise: Mapping[str, Any] = field(default_factory=dict)
    home: Path = field(default=Path(), metadata={"bound": True})
    origin: Mapping[str, Any] = field(default_factory=dict, metadata={"bound": True})
    expected: Expected | None = field(default=None, metadata={"bound": True})
