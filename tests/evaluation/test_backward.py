"""Models without a gradient of their own: the gradient of a stand-in, the values of the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bench
from bench.core.types import UserError
from bench.data import loading
from bench.models import backward
from bench.ops import losses, passes
from tests.support import defended

SEEN = [
    "rounded",
    "without_gradient",
    "bytes",
    "reversed",
    "mirrored",
    "part",
    "pillow",
    "blocks",
    "one_hot",
    "nearest",
]


def _digits(count):
    data = loading.load("digits", "test")
    return data.images[:count], data.labels[:count]


def _left(model, **options):
    x, y = _digits(30)
    run = bench.evaluate(model, x, y, attacks="pgd(steps=20),margin(steps=20)", eps=0.2, **options)
    return float(run.worst()["robust_accuracy"].iloc[0])


@pytest.mark.parametrize("name", SEEN)
def test_identity_breaks_what_gradients_leave(name):
    assert _left(defended.Defended(defended.BLUNTED[name]), backward="identity") <= 0.15


@pytest.mark.parametrize("name", ["rounded", "reversed", "mirrored", "blocks", "zeroed"])
def test_without_it_they_look_robust(name):
    assert _left(defended.Defended(defended.BLUNTED[name]), force=True) >= 0.85


def test_one_hot_outputs_are_attacked_through_the_scores():
    model = defended.Defended(after=lambda z: nn.functional.one_hot(z.argmax(1), 10).float())
    with pytest.raises(UserError, match="gradient"):
        _left(model)
    assert _left(model, backward="identity") <= 0.15


@pytest.mark.parametrize("surrogate", [defended.smooth, defended.unrounded, defended.SOUND])
def test_a_surrogate_of_logits_of_images_or_by_name(surrogate):
    assert _left(defended.blunted(), backward=surrogate) <= 0.15


def test_a_module_is_a_surrogate_too():
    model = defended.blunted()
    assert _left(model, backward=model.net) <= 0.15


def test_rows_and_record_are_those_of_the_model():
    x, y = _digits(20)
    run = bench.evaluate(defended.blunted(), x, y, attacks="pgd(steps=10)", eps=0.2, backward="identity")
    assert run.record.backward == "identity"
    # Values are the model's: no find is denied.
    changed = run.verdicts[run.verdicts["size"] > 0]
    assert len(changed) > 10
    assert changed["broken"].all()


def test_random_and_without_a_gradient():
    model = defended.Defended(lambda x: torch.round((x + 0.1 * torch.randn_like(x)) * 4) / 4)
    assert _left(model, eot=10, force=True) >= 0.7
    assert _left(model, eot=10, backward="identity") <= 0.3


class Piped(nn.Module):
    """Features behind a quantiser."""

    def __init__(self):
        super().__init__()
        self.net = defended.Defended().net

    def features(self, x):
        return self.net.features(torch.round(x * 4) / 4)

    def classify(self, z):
        return self.net.classify(z)

    def forward(self, x):
        return self.classify(self.features(x))


def test_attacks_on_features_have_it_as_well():
    x, y = _digits(8)
    form = backward.named("identity", "cpu").of(Piped().eval().requires_grad_(False), x)
    _, logits, gradient = passes.input_gradient(losses.latent_target, form, x, y, form.features(x * 0))
    assert torch.equal(logits, form.inner(x))
    assert bool((gradient != 0).flatten(1).any(1).all())
    run = bench.evaluate(Piped(), x, y, attacks="latent(steps=20)", eps=0.3, backward="identity")
    assert run.verdicts["broken"].any()


def test_a_minimal_attack_has_it_as_well():
    x, y = _digits(12)
    options = {"attacks": "ddn(steps=60)", "norm": "l2", "eps": 3.0}
    sizes = {
        stand_in: bench.evaluate(defended.blunted(), x, y, backward=stand_in, force=True, **options).verdicts["size"]
        for stand_in in ("identity", None)
    }
    assert sizes["identity"].mean() < 0.8 * sizes[None].mean()


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ("identitee", "unknown model"),
            ("nowhere.py:f", "no file"),
            (3, "backward is int"),
            (lambda a, b, c: a, "takes 3 arguments"),
            (lambda x: x.mean(1), "return logits"),
            (lambda x: x.detach(), "no gradient"),
            (lambda x: x.undo(), "AttributeError"),
        ],
    )
    def test_one_line(self, asked, said):
        with pytest.raises(UserError, match=said) as refused:
            _left(defended.blunted(), backward=asked)
        assert "\n" not in str(refused.value)

    def test_a_model_that_no_stand_in_reaches(self):
        class Scripted(nn.Module):
            def forward(self, x):
                return torch.from_numpy(x.detach().numpy().reshape(len(x), -1)[:, :10].copy())

        with pytest.raises(UserError, match="no gradient"):
            _left(Scripted(), backward="identity", force=True)
