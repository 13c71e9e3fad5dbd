"""torchattacks: `torchattacks:CW(steps=1000)`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.attacks.peers.adapter import Library, Peer, PeerTraits, peer_class
from bench.core.extras import imported
from bench.core.registry import peers
from bench.core.types import Norm
from bench.ops import passes

_NAMES: dict[Norm, str] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_OURS = frozenset({"model", "norm", "eps", "max_epsilon", "seed", "verbose", "n_classes"})
_STEP = "Its step size, alpha, does not follow eps: set it."
_SHORT = "10 steps by default, the original 100."
_LINF = ["BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "DIFGSM", "Jitter", "NIFGSM"]
_LINF += ["PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM"]
_ATTACKS: dict[str, PeerTraits] = {
    **dict.fromkeys(_LINF, PeerTraits(("linf",), faults=_STEP)),
    **dict.fromkeys(["TIFGSM", "PIFGSM", "PIFGSMPP"], PeerTraits(("linf",), faults="Takes colour images only.")),
    "FGSM": PeerTraits(("linf",)),
    "SPSA": PeerTraits(("linf",), faults="One iteration by default."),
    "PGDL2": PeerTraits(("l2",), faults=_STEP),
    "PGDRSL2": PeerTraits(("l2",), faults=_STEP),
    "APGD": PeerTraits(("linf", "l2"), faults=_SHORT),
    "APGDT": PeerTraits(("linf", "l2"), faults=_SHORT),
    "FAB": PeerTraits(("linf", "l2"), faults=_SHORT + " In l1 it does not run."),
    "Square": PeerTraits(
        ("linf", "l2"), faults="Draws one square a batch; rescales its schedule, the original does not."
    ),
    "AutoAttack": PeerTraits(("linf", "l2"), faults="Not AutoAttack: its APGD and FAB take 10 steps, not 100."),
    "CW": PeerTraits(
        ("l2",),
        minimal=True,
        faults="Cannot move pixels of exactly 0 or 1; its margin is wrong where every other logit is negative; one c.",
    ),
    "DeepFool": PeerTraits(("l2",), minimal=True, faults="One image and one class at a time: slow."),
    "EADL1": PeerTraits(("l1",), minimal=True, faults="May leave [0, 1], which is judged unlawful."),
    "EADEN": PeerTraits(("l1",), minimal=True, faults="May leave [0, 1], which is judged unlawful."),
}
# Whole numbers by default, though any number will do.
_REAL = frozenset({"c", "kappa"})


@dataclass(frozen=True)
class TorchattacksAttack(Peer):
    """An attack class of torchattacks in its default, untargeted mode."""

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`."""
        ours = {"norm": _NAMES[norm], "eps": eps, "max_epsilon": eps, "seed": seed}
        takes = inspect.signature(self.peer).parameters
        given = {name: value for name, value in ours.items() if name in takes}
        if "n_classes" in takes:
            given["n_classes"] = passes.classes(model, x)
        attack = self.peer(model, **self.arguments, **given)
        attack.set_device(x.device)
        proposed: Tensor = attack(x, y)
        return proposed


def _torchattacks() -> Any:
    return imported("torchattacks", "torchattacks", "pip install --no-deps torchattacks")


def _names() -> dict[str, PeerTraits]:
    _torchattacks()
    return _ATTACKS


def _make(name: str) -> type[Peer]:
    known, call = _ATTACKS[name], getattr(_torchattacks(), name)
    return peer_class(TorchattacksAttack, f"torchattacks:{name}", known, call, _OURS, _REAL)


peers.register("torchattacks")(Library("torchattacks", _names, _make))
