"""The edges of what attacks are given: few classes, extreme or flat logits, odd shapes, images on faces of the box."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor, nn

from bench.core.registry import attacks
from bench.core.types import Budget, UserError
from bench.evaluation.judge import judge, predictions
from bench.ops import passes, rng
from tests.support import subjects
from tests.support.oracles import shifted

_QUICK = {
    "steps": 4,
    "searches": 2,
    "draws": 2,
    "queries": 12,
    "samples": 4,
    "starts": 4,
    "targets": 2,
    "model": "another",
}
# The full ensemble takes no smaller parameters; its stages are the attacks that are here one by one.
_CASES = [(name, norm) for name, kind in attacks.items() if name != "autoattack" for norm in kind.norms]
_LONGER = {"steps": 100, "searches": 6}
_NOTHING = 1e-9
_FEWEST = {"apgd_dlr": 3, "apgd_t": 4}
"""Attacks whose loss is not defined for fewer classes."""


class Edge(nn.Module):
    """A classifier with features and class centers; what its logits are like is chosen by `scale` and `bias`."""

    def __init__(self, shape: tuple[int, ...], classes: int, scale: float, bias: float) -> None:
        super().__init__()
        sizes = {"weight": (6, math.prod(shape)), "centers": (classes, 6)}
        for place, (name, size) in enumerate(sizes.items()):
            draws = rng.uniform(rng.keys(shifted(place), torch.arange(1), "edges"), size)[0]
            self.register_buffer(name, draws * 2 - 1)
        self.register_buffer("bias", torch.zeros(classes).index_fill(0, torch.tensor([0]), bias))
        self.scale = scale

    def features(self, x: Tensor) -> Tensor:
        return (2 * x.flatten(1) - 1) @ self.weight.T

    def classify(self, z: Tensor) -> Tensor:
        return self.scale * z @ self.centers.T + self.bias

    def class_centers(self) -> Tensor:
        return self.centers

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


@dataclass(frozen=True)
class Given:
    """A model, and the images it is attacked on."""

    shape: tuple[int, ...] = (1, 4, 4)
    classes: int = 4
    count: int = 3
    scale: float = 1.0
    bias: float = 0.0
    eps: float | None = None
    change: Callable[[Tensor], Tensor] = lambda x: x
    shift: int = 0

    def model(self) -> nn.Module:
        return subjects.frozen(Edge(self.shape, self.classes, self.scale, self.bias))

    def images(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Images, and as labels the model's predictions, or others."""
        x = self.change(rng.uniform(rng.keys(shifted(1), torch.arange(self.count), "edges"), self.shape))
        return x, (model(x).argmax(1) + self.shift) % self.classes


class Scene:
    """What some attacks ask for before a run."""

    def __init__(self, model: nn.Module, given: Given) -> None:
        self.model, self.given, self.classes = model, given, given.classes

    def exemplars(self, per_class: int) -> tuple[Tensor, Tensor]:
        x = rng.uniform(rng.keys(shifted(2), torch.arange(12), "edges"), self.given.shape)
        return x, self.model(x).argmax(1)

    def surrogate(self, name: str) -> nn.Module:
        return self.model

    def softens(self) -> str:
        return ""


EDGES: dict[str, Given] = {
    "two classes": Given(classes=2),
    "three classes": Given(classes=3),
    "huge logits": Given(scale=1e4),
    "huge negative logits": Given(scale=-1e4),
    "constant logits": Given(scale=0.0),
    "constant logits of 1e4": Given(scale=0.0, bias=1e4),
    "saturated softmax": Given(bias=300.0),
    "all wrong already": Given(shift=1),
    "colour, tall": Given((3, 6, 2)),
    "one channel, wide": Given((1, 2, 7)),
    "a single pixel": Given((1, 1, 1)),
    "a batch of one": Given(count=1),
    "eps below rounding": Given(eps=_NOTHING),
    "eps beyond the box": Given(eps=50.0),
    "pixels of 0 and 1": Given(change=lambda x: x.round()),
    "black images": Given(change=torch.zeros_like),
    "white images": Given(change=torch.ones_like),
}


def _attack(name: str, scene: Scene, quick: dict[str, object]):
    kind = attacks[name]
    known = {field.name for field in fields(kind)}
    attack = kind(**{field: value for field, value in quick.items() if field in known})
    return attack.bind(scene) if hasattr(attack, "bind") else attack


def _check(name: str, norm: str, given: Given) -> None:
    model = given.model()
    x, y = given.images(model)
    attack = _attack(name, Scene(model, given), _QUICK)
    eps = torch.full((len(x),), given.eps or subjects.EPS[norm], dtype=torch.float64)
    budget = Budget(norm, None if attack.minimal else eps)
    if given.classes < _FEWEST.get(name, 0):
        with pytest.raises(UserError, match=r"needs at least \d classes") as caught:
            attack(model, x, y, budget, subjects.keys(len(x)))
        assert "\n" not in str(caught.value)
        return
    with passes.counted(len(x)) as tally:
        x_adv = attack(model, x.clone(), y, budget, subjects.keys(len(x)))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert not tally.not_finite.any(), "the model gave NaN or infinity: the search left the images"
    judged = judge(model, x, x_adv, predictions(model(x)), norm, budget.eps)
    assert judged.lawful.all()
    changed = (x_adv != x).flatten(1).any(1)
    assert (judged.adv_pred != y)[changed].all(), "a failed image did not come back clean"
    if given.scale == 0 or (not attack.minimal and given.eps == _NOTHING):
        assert not changed.any(), "found what is not there"


@pytest.mark.parametrize(("name", "norm"), _CASES)
def test_every_attack_stays_lawful_and_claims_only_what_holds(name, norm):
    for edge, given in EDGES.items():
        try:
            _check(name, norm, given)
        except Exception as fault:
            fault.add_note(f"edge: {edge}")
            raise


@pytest.mark.parametrize(("name", "norm"), [case for case in _CASES if attacks[case[0]].minimal])
def test_minimal_attacks_find_what_is_there(name, norm):
    """A linear model with a boundary inside the box is broken, however it saturates and wherever its images lie."""
    # A step of hsj is many passes, and its start is a find; one of cw moves w by 0.01, of 3.7 from face to face.
    quick = _QUICK | {"hsj": {}, "cw": _LONGER | {"steps": 400}}.get(name, _LONGER)
    for edge in ("two classes", "huge logits", "a batch of one", "pixels of 0 and 1", "black images"):
        given = EDGES[edge]
        model = given.model()
        x, y = given.images(model)
        attack = _attack(name, Scene(model, given), quick)
        x_adv = attack(model, x, y, Budget(norm, None), subjects.keys(len(x)))
        assert (model(x_adv).argmax(1) != y).all(), edge
