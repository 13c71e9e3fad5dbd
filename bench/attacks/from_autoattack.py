"""AutoAttack itself, from pyautoattack: `autoattack:standard`, `autoattack:plus`, `autoattack:rand`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.attacks.peers import Known, Library, Peer, imported, made
from bench.registry import peers
from bench.types import Norm

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_SHARED = "Its Square draws one square a batch and every batch gets the same noise, so images depend on their batch."
_VERSIONS = ("standard", "plus", "rand")


@dataclass(frozen=True)
class PyAutoAttack(Peer):
    """One version of AutoAttack (Croce and Hein 2020) with its own parameters, of which none can be set."""

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`."""
        version = self.title.partition(":")[2]
        attack = self.peer(model, norm=_NAMES[norm], eps=eps, seed=seed, version=version, device=x.device)
        proposed: Tensor = attack.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return proposed


def _pyautoattack() -> Any:
    return imported("autoattack", "pyautoattack", 'pip install "bench[peers]"')


def _names() -> dict[str, Known]:
    _pyautoattack()
    norms: tuple[Norm, ...] = ("linf", "l2", "l1")
    return {version: Known(norms, faults=_SHARED) for version in _VERSIONS}


def _make(name: str) -> type[Peer]:
    call = _pyautoattack().AutoAttack
    ours = frozenset({"model", "attacks", "device", "eps", "norm", "seed", "version"})
    return made(PyAutoAttack, f"autoattack:{name}", _names()[name], call, ours)


peers.register("autoattack")(Library("autoattack", _names, _make))
