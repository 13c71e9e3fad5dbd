"""The random generators that a model may draw from: seeded for a while, and given back as they were."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def seeded(model: object, *parts: object) -> Iterator[None]:
    """Seed torch's, numpy's and Python's global generators, and those that the model's modules hold.

    The seed is made of `parts` (a run's seed, an attack's name, a step, ...). What was there before comes back on
    leaving. A generator that a model keeps anywhere but in an attribute of one of its modules is out of reach.
    """
    seed = int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big") >> 1
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(list(devices)))
        for restore in [_python(seed), _numpy(seed), *_held(model, seed)]:
            stack.callback(restore)
        torch.manual_seed(seed)
        yield


def _python(seed: int) -> Callable[[], None]:
    before = random.getstate()
    random.seed(seed)
    return lambda: random.setstate(before)


def _numpy(seed: int) -> Callable[[], None]:
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    return lambda: np.random.set_state(before)


def _held(model: object, seed: int) -> Iterator[Callable[[], None]]:
    """Seed the generators that modules hold as attributes; what sets each back."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    generators = {id(value): value for module in modules for value in vars(module).values() if _is_generator(value)}
    for place, generator in enumerate(generators.values()):
        yield _set(generator, (seed + place) % 2**32)


def _is_generator(value: object) -> bool:
    return isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random)


def _set(generator: Any, seed: int) -> Callable[[], None]:
    if isinstance(generator, torch.Generator):
        tensor = generator.get_state()
        generator.manual_seed(seed)
        return lambda: _discard(generator.set_state(tensor))
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        state = bits.state
        bits.state = type(bits)(seed).state
        return lambda: setattr(bits, "state", state)
    if isinstance(generator, np.random.RandomState):
        before = generator.get_state()
        generator.seed(seed)
        return lambda: generator.set_state(before)
    kept = generator.getstate()
    generator.seed(seed)
    return lambda: generator.setstate(kept)


def _discard(_value: object) -> None:
    """A callback returns nothing."""
