"""RobustBench's models, with the threat model of their leaderboard: `robustbench:Carmon2019Unlabeled`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from sys import stderr
from typing import Any, ClassVar, Literal

from bench.core.extras import extra, imported
from bench.core.places import cache_dir, is_folder
from bench.core.registry import model_sources, suggestion
from bench.core.types import ThreatModel, UserError
from bench.models.sources.source import Sourced, library, loading

_BUDGETS = {
    ("cifar10", "Linf"): ThreatModel("linf", 8 / 255, "8/255"),
    ("cifar100", "Linf"): ThreatModel("linf", 8 / 255, "8/255"),
    ("imagenet", "Linf"): ThreatModel("linf", 4 / 255, "4/255"),
    ("cifar10", "L2"): ThreatModel("l2", 0.5, "0.5"),
}
"""The budgets of its leaderboards."""
_KNOWN_DATA = ("cifar10", "cifar100")


@model_sources.register("robustbench")
@dataclass(frozen=True)
class RobustBench:
    """A model of RobustBench's zoo, whose weights lie in `./models`, as RobustBench has them, or in the user cache.

    Args:
        name: as the leaderboard names it.
        home: where `models` is looked for.
        dataset: cifar10, cifar100 or imagenet; by default the first that has the model.
        threat: Linf, L2 or corruptions; by default the first that has the model.
    """

    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "robustbench"
    names: ClassVar[str] = "NAME"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    dataset: Literal["", "cifar10", "cifar100", "imagenet"] = ""
    threat: Literal["", "Linf", "L2", "corruptions"] = ""

    def load(self) -> Sourced:
        """The model; its own code normalises images.

        Raises:
            UserError: robustbench is missing, knows no such model, or cannot get its weights.
        """
        remedy = extra("robustbench")
        zoo = imported("robustbench", "robustbench.model_zoo", remedy).model_dicts
        load_model = imported("robustbench", "robustbench.utils", remedy).load_model
        dataset, threat = self._board(zoo)
        folder = self.home / "models" if is_folder(self.home / "models") else cache_dir() / "models" / "robustbench"
        with redirect_stdout(stderr), loading(f"robustbench:{self.name}", f"look at the weights in {folder}"):
            model = load_model(self.name, model_dir=str(folder), dataset=dataset, threat_model=threat)
        origin = {"source": library("robustbench"), "dataset": dataset, "threat_model": threat}
        data = dataset if dataset in _KNOWN_DATA else ""
        return Sourced(model.eval(), data=data, trained_for=_BUDGETS.get((dataset, threat)), origin=origin)

    def _board(self, zoo: Mapping[Any, Mapping[Any, Any]]) -> tuple[str, str]:
        """The data set and the threat model of the first leaderboard that has the model."""
        boards = [
            (data.value, threat.value, models)
            for data, threats in zoo.items()
            for threat, models in threats.items()
            if self.dataset in ("", data.value) and self.threat in ("", threat.value)
        ]
        for data, threat, models in boards:
            if self.name in models:
                return data, threat
        known = sorted({name for *_, models in boards for name in models})
        raise UserError(f"robustbench has no model {self.name!r}: {suggestion(self.name, known)}")
