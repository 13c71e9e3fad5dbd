"""What every registered attack keeps to, in every norm it knows."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from torch import Tensor

from bench.core.registry import attacks
from bench.core.types import Budget
from bench.ops import norms
from tests.support import subjects

_QUICK = {"steps": 8, "searches": 3, "draws": 3, "queries": 60, "samples": 6, "model": "another"}
_QUICK |= {"islands": 2, "starts": 3, "generations": 2, "children": 3, "polish": 2}
_CASES = [(name, norm) for name, kind in attacks.items() for norm in kind.norms]
_COUNT = 9


def _attack(name: str, scene: subjects.Scene | None = None):
    """The attack with fewer steps than its default: the contract does not depend on them."""
    kind = attacks[name]
    known = {field.name for field in fields(kind)}
    attack = kind(**{field: value for field, value in _QUICK.items() if field in known})
    scene = scene or subjects.Scene(subjects.frozen(subjects.Centred()))
    return attack.bind(scene) if hasattr(attack, "bind") else attack


@pytest.fixture(scope="module")
def model():
    return subjects.frozen(subjects.Centred())


def _run(attack, model, x: Tensor, y: Tensor, norm: str, eps=None, keys=None) -> Tensor:
    budget = Budget(norm, None) if attack.minimal else subjects.budget(norm, eps or subjects.EPS[norm], len(x))
    return attack(model, x, y, budget, subjects.keys(len(x)) if keys is None else keys)


@pytest.mark.parametrize(("name", "norm"), _CASES)
class TestEveryAttack:
    def test_returns_lawful_images_of_the_same_shape(self, model, name, norm):
        x, y = subjects.images(model, _COUNT)
        x_adv = _run(_attack(name), model, x, y, norm)
        assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
        assert x_adv.isfinite().all() and x_adv.min() >= 0 and x_adv.max() <= 1
        if not _attack(name).minimal:
            size = norms.size(x_adv.double() - x.double(), norm)
            assert (size <= subjects.EPS[norm] + (0 if norm == "linf" else 1e-7)).all()

    def test_failed_examples_come_back_clean(self, model, name, norm):
        x, y = subjects.images(model, _COUNT)
        x_adv = _run(_attack(name), model, x, y, norm)
        failed = model(x_adv).argmax(1) == y
        assert torch.equal(x_adv[failed], x[failed])

    def test_zero_eps_returns_the_clean_images(self, model, name, norm):
        if _attack(name).minimal:
            pytest.skip("a minimal attack has no eps")
        x, y = subjects.images(model, _COUNT)
        assert torch.equal(_run(_attack(name), model, x, y, norm, eps=[0.0] * _COUNT), x)

    def test_eps_is_per_example(self, model, name, norm):
        if _attack(name).minimal:
            pytest.skip("a minimal attack has no eps")
        x, y = subjects.images(model, _COUNT)
        grid = [subjects.EPS[norm] * (place % 3) for place in range(_COUNT)]
        mixed = _run(_attack(name), model, x, y, norm, eps=grid)
        for place in range(_COUNT):
            own = _run(
                _attack(name), model, x[[place]], y[[place]], norm, [grid[place]], subjects.keys(_COUNT)[[place]]
            )
            assert torch.equal(mixed[place], own[0])

    def test_the_same_bits_alone_as_in_a_batch(self, model, name, norm):
        x, y = subjects.images(model, _COUNT)
        together = _run(_attack(name), model, x, y, norm)
        for place in range(_COUNT):
            alone = _run(_attack(name), model, x[[place]], y[[place]], norm, keys=subjects.keys(_COUNT)[[place]])
            assert torch.equal(together[place], alone[0])

    def test_leaves_model_inputs_and_random_state_alone(self, model, name, norm):
        own = copy.deepcopy(model).train().requires_grad_(True)
        before = copy.deepcopy(own.state_dict())
        x, y = subjects.images(model, _COUNT)
        attack = _attack(name)
        x_before, state = x.clone(), torch.random.get_rng_state()
        _run(attack, own, x, y, norm)
        assert all(torch.equal(before[key], value) for key, value in own.state_dict().items())
        assert own.training and all(weight.grad is None for weight in own.parameters())
        assert torch.equal(x, x_before) and not x.requires_grad
        assert torch.equal(state, torch.random.get_rng_state())

    def test_takes_an_empty_batch(self, model, name, norm):
        x, y = subjects.images(model, 0)
        assert _run(_attack(name), model, x, y, norm, eps=[]).shape == x.shape

    def test_takes_colour_images_that_are_not_square(self, name, norm):
        model = subjects.linear((3, 4, 9), 4)
        attack = _attack(name, subjects.Scene(model, (3, 4, 9)))
        if any(not hasattr(model, need) for need in attack.needs):
            pytest.skip("needs more than logits")
        x, y = subjects.images(model, 4, (3, 4, 9))
        assert _run(attack, model, x, y, norm).shape == x.shape

    def test_survives_logits_that_saturate_or_do_not_vary(self, name, norm):
        attack = _attack(name)
        for scale in (1e4, -1e4, 0.0):
            model = subjects.frozen(subjects.Centred())
            model.centers *= scale
            x, y = subjects.images(model, 4)
            x_adv = _run(attack, model, x, y, norm)
            assert x_adv.isfinite().all() and x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize(("name", "kind"), attacks.items())
def test_attacks_are_frozen_and_documented(name, kind):
    attack = kind()
    with pytest.raises((FrozenInstanceError, AttributeError)):
        attack.steps = 3
    assert kind.__doc__ and set(kind.norms) <= {"linf", "l2", "l1"} and isinstance(kind.minimal, bool)
    assert isinstance(kind.needs, tuple)


@pytest.mark.parametrize("name", [name for name, kind in attacks.items() if not kind.minimal])
def test_budgeted_attacks_refuse_a_missing_eps(name, model):
    x, y = subjects.images(model, 2)
    with pytest.raises(Exception, match="needs a budget"):
        _attack(name)(model, x, y, Budget("linf", None), subjects.keys(2))
