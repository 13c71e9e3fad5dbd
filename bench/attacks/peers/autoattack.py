"""AutoAttack itself, from pyautoattack: `autoattack:standard`, `autoattack:plus`, `autoattack:rand`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from bench.attacks.peers.adapter import Library, Peer, PeerTraits, peer_class
from bench.core.extras import extra, imported
from bench.core.registry import peers
from bench.core.types import Norm

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_SHARED = "Its Square draws one square a batch and every batch gets the same noise, so images depend on their batch."
_STAGES = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}


@dataclass(frozen=True)
class PyAutoAttack(Peer):
    """One version of AutoAttack (Croce and Hein 2020) with its own parameters, of which none can be set.

    A run asks for its stages one by one, and judges the images between them; what a stage does is the same.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    @property
    def version(self) -> str:
        """Which of the three."""
        return self.title.partition(":")[2]

    def stages(self, norm: Norm) -> Iterator[tuple[str, Peer]]:
        """Names and attacks, in order."""
        for name in _STAGES[self.version]:
            yield name, PyAutoAttackStage(self.version, name)

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`."""
        return _evaluated(self.version, _STAGES[self.version], model, x, y, norm, eps, seed)


@dataclass(frozen=True)
class PyAutoAttackStage(Peer):
    """One stage of a version of AutoAttack, with the parameters that it has there."""

    version: str = "standard"
    stage: str = "apgd-ce"

    title: ClassVar[str] = "autoattack"
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`."""
        return _evaluated(self.version, (self.stage,), model, x, y, norm, eps, seed)


def _evaluated(
    version: str,
    stages: tuple[str, ...],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    eps: float | None,
    seed: int,
) -> Tensor:
    call = _pyautoattack().AutoAttack
    attack = call(model, norm=_NAMES[norm], eps=eps, seed=seed, version=version, device=x.device)
    attack.attacks_to_run = list(stages)
    proposed: Tensor = attack.run_standard_evaluation(x, y, batch_size=len(x))[0]
    return proposed


def _pyautoattack() -> Any:
    return imported("autoattack", "pyautoattack", extra("peers"))


def _names() -> dict[str, PeerTraits]:
    _pyautoattack()
    return {version: PeerTraits(PyAutoAttack.norms, faults=_SHARED) for version in _STAGES}


def _make(name: str) -> type[Peer]:
    call = _pyautoattack().AutoAttack
    ours = frozenset({"model", "attacks", "device", "eps", "norm", "seed", "version"})
    return peer_class(PyAutoAttack, f"autoattack:{name}", _names()[name], call, ours)


peers.register("autoattack")(Library("autoattack", _names, _make))
