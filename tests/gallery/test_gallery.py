"""The audit names what is broken of each kind, what it names next works, and it is silent about sound models."""

from __future__ import annotations

import pytest

from tests.gallery import models
from tests.gallery.trial import Factory, tried

_IMAGES = 60
SIGN = {
    "saturated": "cross-entropy alone",
    "masked_gap": "cross-entropy alone",
    "steep_steps": "rough gradient",
    "noisy_input": "chance",
    "noisy_rounded": "chance",
    "random_shift": "chance",
    "dropped_pixels": "chance",
    "random_expert": "chance",
    "faint_noise": "chance",
    "counting": "check 'state'",
    "batch_statistics": "check 'batch'",
    "forgotten_normalisation": "clean accuracy",
    "spare_class": "check 'extra class'",
}
"""What the audit must say of each broken model; of those that are not here, that their gradient misleads."""
LEAVES = {"rounded_input": 0.2, "reversed_gradient": 0.1, "shattered_gradient": 0.1, "steep_steps": 0.2}
"""What is left at most after the advice; of the net alone, plain attacks leave 0.06."""


@pytest.mark.parametrize("factory", models.BROKEN, ids=lambda factory: factory.__name__)
def test_what_is_broken_is_named(factory: Factory) -> None:
    trial = tried(factory, _IMAGES, "pgd,margin", further=False)
    assert SIGN.get(factory.__name__, "misleading gradient") in {sign.name for sign in trial.signs}
    graded = [sign for sign in trial.signs if sign.grade in ("fault", "evidence of masking")]
    assert graded


@pytest.mark.parametrize("factory", models.SOUND, ids=lambda factory: factory.__name__)
def test_what_is_sound_is_left_alone(factory: Factory) -> None:
    assert tried(factory, _IMAGES, "pgd,adaptive", further=False).signs == []


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAVES)
def test_what_is_named_next_breaks_it(name: str) -> None:
    trial = tried(getattr(models, name), _IMAGES, "pgd,margin")
    assert trial.first > 0.8
    assert trial.last <= LEAVES[name]
