"""foolbox: `foolbox:L2CarliniWagnerAttack(steps=1000)`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.attacks.peers.adapter import ORDER, Library, Peer, PeerTraits, peer_class
from bench.core.extras import extra, imported
from bench.core.registry import peers
from bench.core.types import Norm

_OURS = frozenset({"distance", "constraint", "init_attack", "tensorboard", "update_stats_every_k"})
# They want other images, a target, or no norm of ours.
_LEFT_OUT = {
    "BinarizationRefinementAttack",
    "DatasetAttack",
    "GenAttack",
    "PointwiseAttack",
    "VirtualAdversarialAttack",
}
_FAULTS = {
    "L2CarliniWagnerAttack": "Images it failed on come back black; it stops early by the loss of the whole batch.",
    "L2FMNAttack": "Its projection does nothing, so perturbations come out many times too large.",
    **dict.fromkeys([f"L{order}BrendelBethgeAttack" for order in ("1", "2", "infinity")], "Needs numba."),
}


@dataclass(frozen=True)
class FoolboxAttack(Peer):
    """An attack class of foolbox on a model with bounds (0, 1)."""

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`: the clipped images of an untargeted call."""
        foolbox = _foolbox()
        takes, given = inspect.signature(self.peer).parameters, self.arguments
        if "distance" in takes:
            given["distance"] = foolbox.distances.LpDistance(ORDER[norm])
        if "constraint" in takes:
            given["constraint"] = norm
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        clipped: Tensor = self.peer(**given)(wrapped, x, y, epsilons=eps)[1]
        return clipped


def _foolbox() -> Any:
    return imported("foolbox", "foolbox", extra("peers"))


def _norms(kind: Any) -> tuple[Norm, ...]:
    takes = inspect.signature(kind).parameters
    if "distance" in takes:
        return ("l2", "linf", "l1")
    if "constraint" in takes:
        return ("l2", "linf")
    order = getattr(getattr(kind, "distance", None), "p", None)
    return tuple(norm for norm, value in ORDER.items() if value == order)


def _names() -> dict[str, Any]:
    """The attack classes with a norm of ours, by name, aliases too."""
    attacks = _foolbox().attacks
    kinds = {
        name: kind
        for name, kind in vars(attacks).items()
        if inspect.isclass(kind) and issubclass(kind, attacks.base.AttackWithDistance)
    }
    usable = {name: kind for name, kind in kinds.items() if kind.__name__ not in _LEFT_OUT}
    return {name: kind for name, kind in usable.items() if not inspect.isabstract(kind) and _norms(kind)}


def _make(name: str) -> type[Peer]:
    kind = _names()[name]
    minimal = issubclass(kind, _foolbox().attacks.base.MinimizationAttack)
    known = PeerTraits(_norms(kind), minimal, _FAULTS.get(kind.__name__, ""))
    return peer_class(FoolboxAttack, f"foolbox:{name}", known, kind, _OURS)


peers.register("foolbox")(Library("foolbox", _names, _make))
