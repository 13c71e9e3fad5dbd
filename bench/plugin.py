"""What an attack of one's own imports. Later moves inside the package never break a name that stands here.

An attack is a frozen dataclass whose fields are its parameters. It has the class attributes `needs` (methods that the
model must have), `norms` (in which sizes are measured, the preferred one first) and `minimal` (looks for the smallest
perturbation and ignores eps), and is called with the model, images x (N, C, H, W) in [0, 1], labels y (N,), a `Budget`
and keys (N,) for random draws. It returns x_adv, and the clean image where it failed. `adaptive = True` makes it one of
`adaptive`. In a file of one's own it is named `file.py:Class`; in a folder of
`bench/attacks/`, `register` gives it a name.
"""

from __future__ import annotations

from bench.core.fields import bounded
from bench.core.registry import attacks as _attacks
from bench.core.types import Attack, Budget, Norm, Objective, Scene, UserError
from bench.ops.active_set import Proposals, misclassified
from bench.ops.ascent import Attempt, Schedule, first_success
from bench.ops.norms import Ball, per_example, size, steepest
from bench.ops.passes import input_gradient, outputs, reference_outputs
from bench.ops.rng import fold, integers, normal, signs, uniform

__all__ = [
    "Attack",
    "Attempt",
    "Ball",
    "Budget",
    "Norm",
    "Objective",
    "Proposals",
    "Scene",
    "Schedule",
    "UserError",
    "bounded",
    "first_success",
    "fold",
    "input_gradient",
    "integers",
    "misclassified",
    "normal",
    "outputs",
    "per_example",
    "reference_outputs",
    "register",
    "signs",
    "size",
    "steepest",
    "uniform",
]

register = _attacks.register
