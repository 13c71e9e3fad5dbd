"""Counter-based random numbers: a value depends on its key and its position, on nothing else.

So one image draws the same noise alone or in any batch, on any device, resumed or not, and the global random state is
never touched. The hash is the finaliser of SplitMix64 (Steele et al. 2014) on wrapping 64-bit integers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.ops import tiling


def _signed(value: int) -> int:
    """The 64-bit pattern of a non-negative integer as torch's int64 holds it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64 shifts copy the sign, so mask it off."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _FIRST
    value = (value ^ _shift(value, 27)) * _SECOND
    return value ^ _shift(value, 31)


def keys(seed: int, index: Tensor, purpose: str) -> Tensor:
    """Keys (N,) int64 for images `index` (N,) under a seed and a purpose (an attack's name, say)."""
    salt = int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big")
    return _mix(_mix(index.long() * _GOLDEN) + _signed(salt))


def fold(keys: Tensor, counter: int | Tensor) -> Tensor:
    """New keys (N,) for one more counter: a restart, a step, a target. A tensor counter (N,) gives each its own."""
    step = counter if isinstance(counter, Tensor) else torch.full((), counter, dtype=torch.int64, device=keys.device)
    return _mix(keys + (step.long() + 1) * _GOLDEN)


def _drawn(keys: Tensor, shape: Sequence[int], draw: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What `draw` makes of keys (n,) and places (P,), a row an image, as (N, *shape); on a CPU a cacheful at a time."""
    places = torch.arange(1, math.prod(shape) + 1, device=keys.device) * _GOLDEN
    cuts = tiling.parts(len(keys), len(places), keys.device)
    return torch.cat([draw(keys[cut], places) for cut in cuts]).view(len(keys), *shape)


def _bits(keys: Tensor, places: Tensor) -> Tensor:
    return _mix(keys[:, None] + places)


def _uniform(keys: Tensor, places: Tensor) -> Tensor:
    return _shift(_bits(keys, places), 40).float() * 2.0**-24


def _normal(keys: Tensor, places: Tensor) -> Tensor:
    radius = 1 - _uniform(fold(keys, 0), places).double()
    angle = _uniform(fold(keys, 1), places).double()
    return ((-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()).float()


def uniform(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Uniform float32 (N, *shape) in [0, 1), 24 bits each: exact, so the same on every device."""
    return _drawn(keys, shape, _uniform)


def signs(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Random signs -1 or 1 as float32 (N, *shape)."""
    return _drawn(keys, shape, lambda part, places: (_bits(part, places) & 1).float() * 2 - 1)


def normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 (N, *shape), by Box and Muller (1958) in double precision."""
    return _drawn(keys, shape, _normal)


def integers(keys: Tensor, high: int) -> Tensor:
    """Uniform int64 (N,) in [0, high)."""
    return (uniform(keys, ()).double() * high).long()
