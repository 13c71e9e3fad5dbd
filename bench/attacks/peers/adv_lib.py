"""adversarial-library: `adv_lib:alma(num_steps=500)`.

Its attacks import a plotting client (visdom) and a perceptual distance (torchvision) that none of the entries here
uses; hollow modules stand in for both while one is loaded, so that neither package needs to be there.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from bench.attacks.peers.adapter import ORDER, Library, Peer, PeerTraits, peer_class
from bench.core.extras import imported
from bench.core.registry import peers
from bench.core.types import Norm

_PACKAGE = "adv_lib.attacks"
# What its attacks import and, called as they are here, never use: a logger for callbacks, a distance by torchvision.
_UNUSED = {"adv_lib.utils.visdom_logger": "VisdomLogger", "adv_lib.distances.lpips": "LPIPS"}
_OURS = frozenset({"model", "inputs", "labels", "targeted", "norm", "p", "eps", "ε", "distance", "callback"})
_ALL: tuple[Norm, ...] = ("linf", "l2", "l1")
_ATTACKS: dict[str, tuple[str, PeerTraits]] = {
    "alma": ("augmented_lagrangian", PeerTraits(("l2", "l1"), minimal=True)),
    "apgd": ("auto_pgd", PeerTraits(_ALL)),
    "apgd_targeted": ("auto_pgd", PeerTraits(_ALL)),
    "carlini_wagner_l2": ("carlini_wagner.l2", PeerTraits(("l2",), minimal=True)),
    "carlini_wagner_linf": ("carlini_wagner.linf", PeerTraits(("linf",), minimal=True)),
    "ddn": (
        "decoupled_direction_norm",
        PeerTraits(("l2",), minimal=True, faults="Rounds images to 256 grey levels by default."),
    ),
    "df": ("deepfool", PeerTraits(("l2", "linf"), minimal=True)),
    "fab": ("fast_adaptive_boundary.fast_adaptive_boundary", PeerTraits(_ALL, minimal=True)),
    "fmn": (
        "fast_minimum_norm",
        PeerTraits(
            _ALL, minimal=True, faults="10 steps by default; may approach a boundary for ever from the right side."
        ),
    ),
    "pdgd": ("primal_dual_gradient_descent", PeerTraits(("l2",), minimal=True)),
    "pdpgd": ("primal_dual_gradient_descent", PeerTraits(_ALL, minimal=True)),
    "pgd_linf": ("projected_gradient_descent", PeerTraits(("linf",))),
    "sdf": ("superdeepfool", PeerTraits(("l2",), minimal=True)),
    "tr": ("trust_region", PeerTraits(("l2", "linf"), minimal=True)),
}


@dataclass(frozen=True)
class AdvLibAttack(Peer):
    """An attack function of adversarial-library, untargeted."""

    def propose(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: float | None, seed: int) -> Tensor:
        """See `Peer`."""
        takes = inspect.signature(self.peer).parameters
        ours: dict[str, Any] = {"norm": ORDER[norm], "p": ORDER[norm], "distance": norm}
        if not self.minimal:  # the minimal `tr` has an eps of its own, which is an overshoot
            ours |= {"eps": eps, "ε": eps}
        given = {name: value for name, value in ours.items() if name in takes}
        proposed: Tensor = self.peer(model, x, y, **self.arguments, **given)
        return proposed


@contextmanager
def _unexecuted_package() -> Iterator[None]:
    """Let single modules of the package be imported without its `__init__`, which needs torchvision for one of them.

    The package's own module object stands in `sys.modules`, unexecuted, while one of its files loads, for a file may
    import its neighbours; afterwards `import adv_lib.attacks` means what it always did.
    """
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith((_PACKAGE, *_UNUSED))}
    spec = PathFinder.find_spec(_PACKAGE, imported("adv_lib", "adv_lib", "pip install --no-deps adv-lib").__path__)
    if spec is not None:
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    for name, unused in _UNUSED.items():
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], unused, type(None))
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith((_PACKAGE, *_UNUSED))]:
            del sys.modules[name]
        sys.modules.update(held)


def _function(name: str) -> Callable[..., Any]:
    with _unexecuted_package():
        module = imported(f"adv_lib:{name}", f"{_PACKAGE}.{_ATTACKS[name][0]}", "pip install --no-deps adv-lib")
    function: Callable[..., Any] = getattr(module, name)
    return function


def _names() -> dict[str, PeerTraits]:
    imported("adv_lib", "adv_lib", "pip install --no-deps adv-lib")
    return {name: known for name, (_, known) in _ATTACKS.items()}


def _make(name: str) -> type[Peer]:
    return peer_class(AdvLibAttack, f"adv_lib:{name}", _ATTACKS[name][1], _function(name), _OURS)


peers.register("adv_lib")(Library("adv_lib", _names, _make))
