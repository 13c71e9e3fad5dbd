"""The PGD of a stored run, for probes that climb again from the same start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.core.types import Budget, Norm
from bench.evaluation.probes.probe import Images
from bench.ops import ascent, rng
from bench.store.record import Record


@dataclass(frozen=True)
class RunPGD:
    """A run's norm, eps and seed, and the steps of its first untargeted PGD; the default ones if it had none."""

    norm: Norm
    eps: float
    steps: int
    step_size: float | None
    random_start: bool
    seed: int

    @classmethod
    def of(cls, record: Record, eps: float) -> RunPGD:
        """The PGD that a run's record describes, at the run's eps."""
        entries = [attack.fields for attack in record.attacks if attack.name == "pgd"]
        fields: Mapping[str, Any] = next((entry for entry in entries if not entry.get("targeted")), {})
        steps, size, start = fields.get("steps", 40), fields.get("step_size"), fields.get("random_start", True)
        return cls(record.norm, eps, steps, size, start, record.seed)

    def budget(self, images: Images) -> Budget:
        """The run's eps for each image."""
        eps = torch.full((len(images),), self.eps, dtype=torch.float64, device=images.x.device)
        return Budget(self.norm, eps)

    def schedule(self, budget: Budget) -> ascent.Schedule:
        """Its steps within a budget."""
        return ascent.Schedule.standard(budget, self.steps, self.step_size)

    def keys(self, images: Images) -> Tensor:
        """The keys (M,) of its noise."""
        return rng.keys(self.seed, images.indices, "pgd")
