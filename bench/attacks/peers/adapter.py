"""Attacks of other libraries as they are: found by name, given the model, and judged like any other.

What they return is not trusted, and they do not keep this package's contract: their results may depend on the batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.attacks.peers.isolation import isolated, watched
from bench.core import registry
from bench.core.types import Budget, Classifier, Norm, UserError
from bench.ops import active_set, passes
from bench.ops.active_set import Proposals

ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True)
class Peer:
    """An attack of another library; a class is made for each, with the constructor's arguments as fields.

    It gets one seed, made of the images' keys, and one eps at a time: images are grouped by eps. Its result stands
    wherever the model's prediction is not y; elsewhere the clean image is returned. Passes are an average over the
    batch: the rows of all its calls over the number of images, rounded up, and one more that looks at the result.
    """

    title: ClassVar[str] = ""
    known_faults: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    minimal: ClassVar[bool] = False
    counts_on_average: ClassVar[bool] = True
    peer: ClassVar[Callable[..., Any]]

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments that a user may set, with their values."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """Let the library attack images x (n, C, H, W) with labels y (n,)."""
        raise NotImplementedError

    def _proposed(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        try:
            z = self.propose(model, x.clone(), y.clone(), norm, eps, seed).detach()
        except Exception as error:
            if isinstance(error, UserError) or passes.out_of_memory(error):
                raise
            fault = str(error).partition("\n")[0] or "no reason given"
            raise UserError(f"{self.title} failed: {type(error).__name__}: {fault}") from error
        if z.shape != x.shape:
            raise UserError(f"{self.title} returned shape {tuple(z.shape)} for {tuple(x.shape)}")
        return z.to(x)

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, budget: Budget, keys: Tensor) -> Tensor:
        """Return x_adv (N, C, H, W); see `bench.core.types.Attack`."""
        eps = None if self.minimal else budget.bound(self.title)
        if not isinstance(model, nn.Module):
            raise UserError(f"{self.title} needs a torch.nn.Module, not {type(model).__name__}: wrap the model in one")
        proposals, every = Proposals(x), active_set.everything(x)
        groups = [(None, every)] if eps is None else [(v, every[eps == v]) for v in sorted(set(eps.tolist())) if v > 0]
        for bound, rows in groups:
            if not len(rows):
                continue
            seed = int(keys[rows].sum()) % 2**31
            with isolated(model, seed), watched(model, rows), torch.enable_grad():
                z = self._proposed(model, x[rows], y[rows], budget.norm, bound, seed)
            proposals.record(rows, z, active_set.misclassified(passes.outputs(model, z, rows), y[rows]))
        return proposals.x_adv


@dataclass(frozen=True)
class PeerTraits:
    """What the library does not say of an attack by itself, or says wrong."""

    norms: tuple[Norm, ...]
    minimal: bool = False
    faults: str = ""


def peer_class(
    base: type[Peer],
    title: str,
    known: PeerTraits,
    call: Callable[..., Any],
    ours: frozenset[str],
    real: frozenset[str] = frozenset(),
) -> type[Peer]:
    """An attack class around a constructor or function: its arguments are fields, but for those that are `ours`.

    Only arguments with a literal default are fields. One that is annotated as float, or named in `real`, takes any
    number though its default may be whole.
    """
    parts = []
    for name, argument in inspect.signature(call).parameters.items():
        default = argument.default
        if name in ours or not (default is None or isinstance(default, bool | int | float | str | tuple)):
            continue
        if isinstance(default, int) and (name in real or argument.annotation in (float, "float")):
            default = float(default)
        parts.append((name, Any, field(default=default)))
    words = {
        "title": title,
        "norms": known.norms,
        "minimal": known.minimal,
        "known_faults": known.faults,
        "peer": staticmethod(call),
        "__doc__": f"{title}, as the library has it. {known.faults}".strip(),
    }
    return make_dataclass(title, parts, bases=(base,), frozen=True, namespace=words)


@dataclass(frozen=True)
class Library:
    """A package of attacks: its prefix, what it knows, and how an attack class is made of a name."""

    prefix: str
    names: Callable[[], Mapping[str, Any]]
    make: Callable[[str], type[Peer]]

    def __call__(self, name: str) -> type[Peer]:
        """The attack class of a name.

        Raises:
            UserError: the library is not installed, or has no such attack.
        """
        known = self.names()
        if name not in known:
            raise UserError(f"unknown {self.prefix} attack {name!r}: {registry.suggestion(name, sorted(known))}")
        return self.make(name)


def peers() -> list[tuple[str, tuple[Norm, ...], str]]:
    """Every attack of every library: its name, its norms, and what is known against it or why it cannot run."""
    lines: list[tuple[str, tuple[Norm, ...], str]] = []
    for prefix, library in registry.peers.items():
        try:
            names = sorted(library.names())
        except UserError as error:
            lines.append((f"{prefix}:", (), str(error)))
            continue
        for name in names:
            try:
                kind = library(name)
                lines.append((kind.title, kind.norms, kind.known_faults))
            except UserError as error:
                lines.append((f"{prefix}:{name}", (), str(error)))
    return lines
