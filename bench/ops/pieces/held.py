"""A ReLU net with its ReLUs held on or off: an affine function, on the piece where they stand so the net itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bench.core.types import Classifier

_RELU = {torch.relu, torch.relu_, F.relu, F.relu_, Tensor.relu, Tensor.relu_}
_AT_ONCE = 128
"""Units whose gradients are taken in one pass."""
_AFFINE = 1e-4
"""How far from affine, in units of how far its logits move, a net with held ReLUs may seem: float32 rounds."""
_LARGEST = 4096, 200_000
"""Entries of an image and units of a net beyond which programmes take too long."""


class Held(TorchFunctionMode):
    """Inside, every ReLU multiplies by what `pattern` says of it; where that is None, by what it would.

    `inputs` and `outputs` hold what went in and came out of each, in order.
    """

    def __init__(self, pattern: Sequence[Tensor] | None) -> None:
        super().__init__()
        self.pattern = pattern
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        kwargs = kwargs or {}
        if func not in _RELU:
            return func(*args, **kwargs)
        a = args[0] if args else kwargs["input"]
        in_place = func.__name__.endswith("_") or bool(kwargs.get("inplace")) or args[-1] is True
        a_in = a.clone() if in_place else a
        on = a_in > 0 if self.pattern is None else self.pattern[len(self.inputs)]
        self.inputs.append(a_in)
        self.outputs.append(a_in * on)
        return a.copy_(self.outputs[-1]) if in_place else self.outputs[-1]


@dataclass
class HeldNet:
    """A net seen from one image: the logit of `target` minus that of `y`, and every unit that feeds a ReLU, (U,).

    `forwards` and `backwards` count the passes that it took.
    """

    model: Classifier
    y: int
    target: int
    forwards: int = 0
    backwards: int = 0

    def values(self, x: Tensor, pattern: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Margins (n,) and units (n, U) at images (n, C, H, W), ReLUs held by a pattern if one is given."""
        with torch.no_grad():
            margin, held = self._run(x, pattern)
        return margin, torch.cat([part.flatten(1) for part in held.inputs], 1)

    def pattern(self, x: Tensor) -> list[Tensor]:
        """Which ReLUs are on at an image (1, C, H, W), for each of them in order."""
        with torch.no_grad():
            return [part > 0 for part in self._run(x, None)[1].inputs]

    def slopes(self, x: Tensor, pattern: Sequence[Tensor], units: Tensor) -> Tensor:
        """Gradients (m, D) of the units at places `units` (m,) at an image (1, C, H, W), ReLUs held."""
        parts = [x.new_zeros(0, x.numel())]
        for part in torch.split(units, _AT_ONCE):
            with torch.enable_grad():
                leaf = x.detach().repeat(len(part), 1, 1, 1).requires_grad_(True)
                _, held = self._run(leaf.clone(), pattern)
                every = torch.cat([before.flatten(1) for before in held.inputs], 1)
                parts.append(torch.autograd.grad(every.gather(1, part[:, None]).sum(), leaf)[0].flatten(1))
            self.backwards += len(part)
        return torch.cat(parts)

    def climb(self, x: Tensor, pattern: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The margin's gradient by the image (D,) and by what each ReLU gives (U,) at an image (1, C, H, W)."""
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_(True)
            margin, held = self._run(leaf.clone(), pattern)
            slope, *after = torch.autograd.grad(margin.sum(), [leaf, *held.outputs], allow_unused=True)
        self.backwards += 1
        gains = [torch.zeros_like(out) if part is None else part for part, out in zip(after, held.outputs, strict=True)]
        return slope.flatten(), torch.cat([part.flatten() for part in gains])

    def _run(self, x: Tensor, pattern: Sequence[Tensor] | None) -> tuple[Tensor, Held]:
        self.forwards += len(x)
        with Held(pattern) as held:
            logits = self.model(x)
        return logits[:, self.target] - logits[:, self.y], held


def flipped(pattern: Sequence[Tensor], units: Tensor) -> list[Tensor]:
    """A pattern with the units at some places (m,) turned."""
    flat = torch.cat([part.flatten() for part in pattern])
    flat[units] = ~flat[units]
    parts = torch.split(flat, [part.numel() for part in pattern])
    return [part.view_as(old) for part, old in zip(parts, pattern, strict=True)]


def is_affine(net: HeldNet, x: Tensor) -> bool:
    """Whether a net with ReLUs held as at an image x (1, C, H, W) is affine, as far as four more images tell.

    That holds for layers that are linear, convolutions, average pools, normalisations by constants and shortcuts; not
    for max-pools, other activations, or where ReLUs are out of reach (see `bench.ops.softened`).
    """
    pattern = net.pattern(x)
    if not pattern or x.numel() > _LARGEST[0] or sum(part.numel() for part in pattern) > _LARGEST[1]:
        return False
    ends = torch.cat([x, 1 - x, torch.zeros_like(x)])
    middle = (ends + ends.roll(1, 0)) / 2
    corners, _ = net.values(ends, pattern)
    between, _ = net.values(middle, pattern)
    moved = (corners.max() - corners.min()).clamp_min(1e-12)
    return bool(((corners + corners.roll(1)) / 2 - between).abs().max() <= _AFFINE * moved)
