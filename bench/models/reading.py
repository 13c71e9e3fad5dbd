"""How a model is called and its answer read: where its logits are, in which precision, what it does to its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.types import Note
from bench.ops import passes

_LOGITS = "logits"
_RULED_OUT = torch.finfo(torch.float32).min / 4
"""What a logit below this says is that its class is ruled out, as -infinity does: sums and squares of it overflow."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Reading:
    """How a model is called and its answer read.

    Args:
        path: keys, places or attributes that lead from its output to the logits.
        dtype: what it wants images in, if not float32.
        single: whether its logits are float32.
        writes: whether it writes into what it is given.
        rules_out: whether it marks classes by logits of -infinity or nearly so.
    """

    path: Path = ()
    dtype: torch.dtype | None = None
    single: bool = True
    writes: bool = False
    rules_out: bool = False

    def given(self, x: Tensor) -> Tensor:
        """Images, or features, as the model wants them."""
        x = x.clone() if self.writes else x
        return x if self.dtype is None else x.to(self.dtype)

    def read(self, output: Any) -> Tensor:
        """Logits (N, K) in float32."""
        logits = at(output, self.path).float()
        return lifted(logits) if self.rules_out else logits

    def notes(self) -> Iterator[Note]:
        """What is to be said of it."""
        if self.path:
            place = ".".join(map(str, self.path))
            yield Note("output", f"the model returns more than logits: {place!r} of its output is taken for them")
        if self.dtype is not None:
            yield Note("dtype", f"the model takes {_short(self.dtype)}: images are cast to it, and logits to float32")
        elif not self.single:
            yield Note("dtype", "the model's logits are not float32: they are cast to it")
        if self.writes:
            yield Note("writes input", "the model writes into its input: it is given a copy at each call")
        if self.rules_out:
            yield Note("ruled out", "the model rules classes out by logits of -infinity or nearly: never predicted")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def lifted(logits: Tensor) -> Tensor:
    """Logits (N, K) whose ruled-out classes lie a row's whole spread below the others, out of reach of the argmax.

    So no difference, square or ratio of logits overflows. Rows that tell no class are left as they are.
    """
    out = logits < _RULED_OUT
    lowest = logits.masked_fill(out, torch.inf).amin(1, keepdim=True).detach()
    spread = logits.amax(1, keepdim=True).detach() - lowest
    floor = lowest - spread.where(spread > 0, lowest.abs().clamp_min(1))
    return torch.where(out & passes.tells(logits)[:, None], floor, logits)


def at(output: Any, path: Path) -> Any:
    """The part of a model's output that a path leads to."""
    for step in path:
        output = getattr(output, step) if isinstance(step, str) and not isinstance(output, Mapping) else output[step]
    return output


def logits_path(output: Any, rows: int) -> Path | None:
    """Where the logits (N, K) of so many rows are in a model's output.

    The key or attribute `logits`, else the first floating-point tensor of that shape in order; None without one.
    """
    if isinstance(output, Tensor):
        return () if output.dim() == 2 and len(output) == rows and output.is_floating_point() else None
    parts = list(_parts(output))
    for step, part in sorted(parts, key=lambda pair: pair[0] != _LOGITS):
        inner = logits_path(part, rows)
        if inner is not None:
            return (step, *inner)
    return None


def _parts(output: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif hasattr(output, _LOGITS):
        yield _LOGITS, getattr(output, _LOGITS)
    elif isinstance(output, tuple | list):
        yield from enumerate(output)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))


def reading_of(model: nn.Module, images: Tensor) -> Reading | None:
    """How to call and read a model; None where it takes these images in no precision, or gives no logits."""
    weights = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    for dtype in (None, *sorted(weights - {torch.float32}, key=str)):
        given = images.clone() if dtype is None else images.to(dtype)
        before = given.clone()
        try:
            with torch.no_grad():
                output = model(given)
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue
        path = logits_path(output, len(images))
        if path is None:
            return None
        logits = at(output, path)
        reading = Reading(path, dtype, logits.dtype == torch.float32, not torch.equal(given, before))
        low = (logits.float() < _RULED_OUT).any(1) & passes.tells(logits)
        return replace(reading, rules_out=bool(low.any()))
    return None
