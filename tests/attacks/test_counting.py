"""The passes that are counted are those that were made, image by image: checked by a model that counts for itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.core.registry import attacks
from bench.core.types import Budget
from bench.ops import active_set, passes
from tests.attacks.test_contract import _attack as quick
from tests.support import subjects

_COUNT = 3
_EPS = {norm: 4 * eps for norm, eps in subjects.EPS.items()}  # at which some of the images fall soon and some late
_CASES = [(name, norm) for name, kind in attacks.items() for norm in kind.norms]


class Rowwise(subjects.Centred):
    """A classifier without matrix products: a row gets the same bits in a batch of any size, on any CPU."""

    def features(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, None] * self.embed.weight[:, : x[0].numel()]).sum(2).tanh()

    def classify(self, z: Tensor) -> Tensor:
        return (z[:, None] * self.centers).sum(2)


class Counting(Rowwise):
    """Counts the rows that go in and the gradient rows that come out, but for those of images that it is told of."""

    def __init__(self, strangers: Tensor) -> None:
        super().__init__()
        self.strangers, self.forwards, self.backwards = strangers, 0, 0

    def features(self, x: Tensor) -> Tensor:
        mine = ~(x.detach()[:, None] == self.strangers).flatten(2).all(2).any(1)
        self.forwards += int(mine.sum())
        if x.requires_grad:
            x = x.clone()
            x.register_hook(lambda gradient: self.note(gradient[mine]))
        return super().features(x)

    def note(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@pytest.fixture(scope="module")
def scene() -> subjects.Scene:
    """What attacks are bound to: a model of its own, so that a surrogate's passes go elsewhere."""
    return subjects.Scene(subjects.frozen(Rowwise()))


@pytest.fixture(autouse=True)
def unpadded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that fill a batch up are nobody's passes."""
    monkeypatch.setattr(passes, "_pad", lambda tensor: tensor)


def _counts(name: str, norm: str, scene: subjects.Scene, rows: slice) -> tuple[Tensor, tuple[int, int]]:
    """Passes (2, n) of some of the images by the tally, and all the passes that the model saw."""
    x, y = subjects.images(scene.model, _COUNT)
    # An attack may ask about exemplars, and one that asks about no image at all is given an empty one.
    model = subjects.frozen(Counting(torch.cat([scene.exemplars(1)[0], torch.zeros_like(x[:1])])))
    attack, keys = quick(name, scene), subjects.keys(_COUNT)[rows]
    eps = None if attack.minimal else subjects.budget(norm, _EPS[norm], _COUNT).eps[rows]
    with passes.counted(len(keys)) as tally:
        attack(model, x[rows], y[rows], Budget(norm, eps), keys)
    return torch.stack([tally.forwards, tally.backwards]), (model.forwards, model.backwards)


@pytest.mark.parametrize(("name", "norm"), _CASES)
def test_an_image_is_charged_in_a_batch_what_the_model_saw_of_it_alone(name, norm, scene):
    told, seen = _counts(name, norm, scene, slice(None))
    assert told.sum(1).tolist() == list(seen)
    for place in range(_COUNT):
        assert told[:, place].tolist() == list(_counts(name, norm, scene, slice(place, place + 1))[1])


@pytest.mark.parametrize(("name", "norm"), [("pgd", "linf"), ("apgd_ce", "linf"), ("cw", "l2"), ("square", "linf")])
def test_passes_of_images_that_wait_to_leave_are_counted_too(name, norm, scene):
    with active_set.compacting(1):
        prompt = _counts(name, norm, scene, slice(None))[0]
    with active_set.compacting(5):
        told, seen = _counts(name, norm, scene, slice(None))
    assert told.sum(1).tolist() == list(seen)
    assert (told >= prompt).all() and told.sum() > prompt.sum()
