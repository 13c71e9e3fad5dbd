"""What `run.json` says: how a run was made, where its numbers come from and what they cost.

A key that was added later has the default that says what earlier versions did; unknown keys are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.core.types import Norm
from bench.store.json_records import JsonRecord, optional

SCHEMA_VERSION = 1

Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ThreatRecord(JsonRecord):
    """A norm and an eps; `eps_written` where it is known how it was typed."""

    norm: Norm
    eps: float | None
    eps_written: str | None = optional(None)


@dataclass(frozen=True, kw_only=True)
class StageEntry(JsonRecord):
    """A stage of an ensemble, which has rows of its own: as its rows name it, its registered name, its fields."""

    spec: str
    name: str
    fields: Table


@dataclass(frozen=True, kw_only=True)
class AttackEntry(JsonRecord):
    """An attack of a run: as its rows name it (`spec`), its registered name, and every field it was run with."""

    spec: str
    name: str
    norm: Norm
    minimal: bool
    adaptive: bool = False
    fields: Table
    stages: tuple[StageEntry, ...] = optional(())

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in its rows: its stages', in order, then its own."""
        return *(stage.spec for stage in self.stages), self.spec


@dataclass(frozen=True, kw_only=True)
class Session(JsonRecord):
    """A later session that went on with a run."""

    command: str = ""
    start: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord(JsonRecord):
    """What a record says of a model: its stanza and the hash of its weights.

    Defaults: `args` and `trained_for` are missing in runs older than those keys.
    """

    model: str
    arch: str = ""
    args: Table = field(default_factory=dict)
    defense: str = ""
    trained_for: ThreatRecord | None = None
    trained_with: Mapping[str, Table] = field(default_factory=dict)
    weights_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Versioned(JsonRecord):
    """A record that is a file of its own: its first key is the version of its form."""

    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class Record(ModelRecord, Versioned):
    """The contents of a `run.json`, its fields in the order of its keys.

    `eps` and `eps_written` are None in a run of minimal attacks and in a sweep, whose `eps_grid` holds each eps as a
    number and as it was typed. Defaults for older runs: searched in float32, each eps by itself.
    """

    data: str
    split: str = ""
    indices: tuple[int, ...]
    data_sha256: str = ""
    data_order: str = optional("")
    attacks: tuple[AttackEntry, ...]
    adaptive: tuple[str, ...] = ()
    norm: Norm
    eps: float | None = None
    eps_written: str | None = None
    eps_grid: tuple[tuple[float, str], ...] | None = None
    eps_order: str | None = None
    seed: int = 0
    batch_size: int
    device: str = "cpu"
    dtype: str = "float32"
    search_dtype: str = "float32"
    eot: int = optional(1)
    draws: int = optional(1)
    backward: str | None = optional(None)
    backward_sha256: str = optional("")
    save_adversarial: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    commit: str = ""
    dirty: bool | None = None
    command: str = ""
    start: str = ""
    forced: tuple[str, ...] = ()
    zero_gradients: float | None = None
    seconds: float = 0.0
    attack_seconds: Mapping[str, float] = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0
    finished: bool = False
    resumed: tuple[Session, ...] = optional(())

    @property
    def labels(self) -> tuple[str, ...]:
        """The attacks that the rows name, in order: the stages of an ensemble stand before it."""
        return tuple(label for attack in self.attacks for label in attack.labels)

    @property
    def stage_labels(self) -> frozenset[str]:
        """The attacks of rows that are a part of another attack's."""
        return frozenset(stage.spec for attack in self.attacks for stage in attack.stages)
