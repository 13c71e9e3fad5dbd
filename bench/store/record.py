"""What `run.json` says: how a run was made, where its numbers come from and what they cost.

A key that was added later has the default that says what earlier versions did; unknown keys are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.text import shown
from bench.core.types import Norm, UserError
from bench.core.values import Bounds
from bench.store.json_records import JsonRecord, free_text, number, optional

SCHEMA_VERSION = 1

_MOST_DRAWS = 10_000
"""How many passes a record may ask for an image: what reads it makes them again."""

Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ThreatRecord(JsonRecord):
    """A norm and an eps; `eps_written` where it is known how it was typed."""

    norm: Norm
    eps: float | None = number(low=0)
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
class Gradients(JsonRecord):
    """Where gradients fail: a letter for each of a run's first images, in the order of `indices`.

    "." for a gradient that leads somewhere, "x" for one that does not, "-" where the model gets the clean image wrong.

    Args:
        step: the size of the step that was tried.
        cross_entropy: whether a step along its gradient raises the margin more than the opposite step.
        margin: the same of the margin's gradient.
        rough: whether the mean gradient of points near by leads much further; of fewer images, or of none.
    """

    step: float
    cross_entropy: str
    margin: str
    rough: str = ""


@dataclass(frozen=True, kw_only=True)
class Session(JsonRecord):
    """A later session that went on with a run."""

    command: str = free_text("")
    start: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    dirty: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Behaviour(JsonRecord):
    """What a model answers on a fixed batch: some of a run's images, then as many of noise (`noise`).

    `values` has a row an image: its logits, or some projections of them, to six digits, null where they are not finite;
    `scales` how far logits of that image lie apart. Of a model that answers otherwise each time, `random`, they say
    nothing.
    """

    random: bool
    noise: int = number(low=0)
    values: tuple[tuple[float | None, ...], ...] = number()
    scales: tuple[float, ...] = number(low=0)


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


_LONGEST_RECORD = 1 << 28


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The JSON object of this schema version in a file; `missing` says what its absence means.

    Raises:
        UserError: it is missing, is not JSON, or has another schema version.
    """
    try:
        if not path.is_file():
            raise UserError(missing)
        if path.stat().st_size > _LONGEST_RECORD:
            raise UserError(f"{path} is damaged: it is longer than any record; make it again")
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is not JSON; delete {path.parent} and make it again") from None
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {shown(version)}, not {SCHEMA_VERSION}: read it with the bench that wrote it"
        )
    return dict(record)


@dataclass(frozen=True, kw_only=True)
class Record(ModelRecord, Versioned):
    """The contents of a `run.json`, its fields in the order of its keys.

    `sample` says how the images were chosen: `first` in official order, or `stratified`, of each class its share;
    nothing where all were taken, and in older runs. `data_options` is what the model's own configuration made of the
    data: how images were resized and cropped, and which class each directory is.

    `eps` and `eps_written` are None in a run of minimal attacks and in a sweep, whose `eps_grid` holds each eps as a
    number and as it was typed. Defaults for older runs: searched in float32, each eps by itself.

    `classes`, `image` (the shape of an image), `sources` (the sha256 of each file of a user's own model or attack) and
    `behaviour` say which model it was; `verdicts_sha256` (of the plain text), `adversarial_sha256`, `losses_sha256`
    and `record_sha256` (of all other keys) sign what a finished run holds. Older runs have none of them.

    `origin` says where a model of a source came from and how it is given images (see `bench.models.sources`);
    `logits_at` which key, place or attribute of its output was taken for the logits, if it returns more.

    `gradients` says where gradients lead nowhere (see `bench.evaluation.indicators`), `notes` are names of what is
    worth knowing of the model (see `bench.evaluation.notes`), `adaptive_missing` says why attacks are not among
    `adaptive`, `failed` why all or some rows of an attack are flagged.
    """

    data: str
    split: str = ""
    indices: tuple[int, ...] = number(low=0)
    sample: str = optional("")
    data_options: Table = field(default_factory=dict, metadata={"optional": True})
    data_sha256: str = ""
    data_order: str = optional("")
    attacks: tuple[AttackEntry, ...]
    adaptive: tuple[str, ...] = ()
    norm: Norm
    eps: float | None = number(None, low=0)
    eps_written: str | None = None
    eps_grid: tuple[tuple[float, str], ...] | None = number(None, low=0)
    eps_order: str | None = None
    seed: int = 0
    batch_size: int = number(low=1)
    device: str = "cpu"
    dtype: str = "float32"
    search_dtype: str = "float32"
    eot: int = optional(1, low=1, high=_MOST_DRAWS)
    draws: int = optional(1, low=1, high=_MOST_DRAWS)
    backward: str | None = optional(None)
    backward_sha256: str = optional("")
    max_passes: int | None = optional(None, low=1)
    save_adversarial: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    commit: str = ""
    dirty: bool | None = None
    command: str = free_text("")
    start: str = ""
    forced: tuple[str, ...] = ()
    zero_gradients: float | None = number(None, low=0, high=1)
    gradients: Gradients | None = field(default=None, metadata={"optional": True})
    notes: tuple[str, ...] = optional(())
    adaptive_missing: Mapping[str, str] = field(default_factory=dict, metadata={"optional": True})
    failed: Mapping[str, str] = field(default_factory=dict, metadata={"optional": True})
    seconds: float = number(0.0, low=0)
    attack_seconds: Mapping[str, float] = field(default_factory=dict, metadata={"bounds": Bounds(low=0)})
    forwards: int = number(0, low=0)
    backwards: int = number(0, low=0)
    finished: bool = False
    resumed: tuple[Session, ...] = optional(())
    classes: int | None = optional(None, low=2)
    image: tuple[int, ...] | None = optional(None, low=1)
    sources: Mapping[str, str] | None = optional(None)
    origin: Table = field(default_factory=dict, metadata={"optional": True})
    logits_at: str = optional("")
    behaviour: Behaviour | None = optional(None)  # noqa: RUF009
    verdicts_sha256: str = optional("")
    adversarial_sha256: str = optional("")
    losses_sha256: str = optional("")
    record_sha256: str = optional("")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the run must know, a line each: attacks that were not made, and why."""
        reasons = dict.fromkeys(self.adaptive_missing.values())
        groups = {reason: [name for name, why in self.adaptive_missing.items() if why == reason] for reason in reasons}
        left_out = [f"adaptive leaves out {', '.join(names)}: {reason}" for reason, names in groups.items()]
        return *left_out, *(f"{attack} could not be made: {reason}" for attack, reason in self.failed.items())

    @property
    def labels(self) -> tuple[str, ...]:
        """The attacks that the rows name, in order: the stages of an ensemble stand before it."""
        return tuple(label for attack in self.attacks for label in attack.labels)

    @property
    def stage_labels(self) -> frozenset[str]:
        """The attacks of rows that are a part of another attack's."""
        return frozenset(stage.spec for attack in self.attacks for stage in attack.stages)
