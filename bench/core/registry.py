"""Names to objects: one registry a kind, filled by importing the package whose modules register themselves."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar

from bench.core.types import UserError

T = TypeVar("T")


_LONGEST, _LONGEST_LIST = 200, 500


def suggestion(name: str, known: list[str]) -> str:
    """One clause that names the neighbours of a misspelt name, or what there is."""
    near = get_close_matches(name[:_LONGEST], known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = 1
    while shown < len(known) and len(", ".join(known[: shown + 1])) <= _LONGEST_LIST:
        shown += 1
    more = f" and {len(known) - shown} more" if len(known) > shown else ""
    return f"known: {', '.join(known[:shown])}{more}"


class Registry(Generic[T]):
    """Objects of one kind by name. Adding one is adding a module to `package`; nothing else changes."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._known: dict[str, T] = {}
        self._filled = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate an object to be found under `name`.

        Raises:
            ValueError: the name is taken (a programming error, not the user's).
        """

        def add(thing: T) -> T:
            if name in self._known:
                raise ValueError(f"{self.kind} {name!r} is registered twice: choose another name")
            self._known[name] = thing
            return thing

        return add

    def _fill(self) -> dict[str, T]:
        if not self._filled:
            self._filled = True
            package = import_module(self.package)
            for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
                if not module.name.endswith(".__main__"):  # a command, not an entry
                    import_module(module.name)
        return self._known

    def __getitem__(self, name: str) -> T:
        """Look a name up.

        Raises:
            UserError: no such name; the text suggests its neighbours.
        """
        known = self._fill()
        if name not in known:
            raise UserError(f"unknown {self.kind} {name!r}: {suggestion(name, sorted(known))}")
        return known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._fill()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._fill()))

    def items(self) -> list[tuple[str, T]]:
        """All pairs, in the order of their names."""
        return sorted(self._fill().items())


# What the registries hold is checked where it is registered; here only the words are known.
attacks: Registry[Any] = Registry("attack", "bench.attacks")
peers: Registry[Any] = Registry("library of attacks", "bench.attacks.peers")
data_kinds: Registry[Any] = Registry("kind of data set", "bench.data")
architectures: Registry[Any] = Registry("architecture", "bench.models.architectures")
datasets: Registry[Any] = Registry("data set", "bench.data")
model_sources: Registry[Any] = Registry("source of models", "bench.models.sources")
probes: Registry[Any] = Registry("probe", "bench.evaluation.probes")
detectors: Registry[Any] = Registry("detector", "bench.evaluation.detectors")
tables: Registry[Any] = Registry("table", "bench.papers")
figures: Registry[Any] = Registry("figure", "bench.papers")
pages: Registry[Any] = Registry("page", "bench.papers")
defenses: Registry[Any] = Registry("defense", "defenses")
