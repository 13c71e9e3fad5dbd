"""Whether a run may go on: the recipe, the model and what it makes of clean images must be those of the rows there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bench.core.types import UserError
from bench.store import behaviour
from bench.store.record import Record, Session

MUST_MATCH = (
    "model",
    "arch",
    "args",
    "weights_sha256",
    "sources",
    "classes",
    "image",
    "defense",
    "trained_for",
    "trained_with",
    "data",
    "split",
    "data_sha256",
    "indices",
    "attacks",
    "norm",
    "eps",
    "eps_written",
    "eps_grid",
    "eps_order",
    "seed",
    "device",
    "dtype",
    "search_dtype",
    "eot",
    "draws",
    "backward",
    "backward_sha256",
    "max_passes",
    "batch_size",
    "save_adversarial",
)
"""The keys of a record that decide its rows: a run is only resumed with the same values."""

_MODEL_KEYS = ("arch", "args", "trained_for", "trained_with", "sources", "classes", "image", "behaviour")
"""What older runs do not say of the model; where they do not, it cannot be compared."""

Clean = Mapping[int, tuple[int, int]]
"""The label and the clean prediction of each image, by its index."""


def continued(home: Path, old: Record, new: Record) -> Record:
    """The record of a run that a new session goes on with.

    Raises:
        UserError: it is not the same run; the text names the first key that differs.
    """
    if other := first_difference(old, new, MUST_MATCH):
        raise UserError(f"{home} was made with {other}: choose another --out")
    return _gone_on(old, new)


def extended(home: Path, old: Record, new: Record) -> Record:
    """The record of a run that takes up the attacks of a new session beside its own, unsigned until it has their rows.

    Raises:
        UserError: anything but the attacks differs, or one of them goes by the name of another there.
    """
    # Files of the session's attacks may be new; one that both have must be the same.
    files = None if old.sources is None else {**old.sources, **(new.sources or {})}
    keys = [key for key in MUST_MATCH if key != "attacks"]
    there = replace(old, sources={**(files or {}), **(old.sources or {})})
    if other := first_difference(there, replace(new, sources=files), keys):
        raise UserError(f"{home} was made with {other}: choose another --out")
    attacks = {attack.spec: attack for attack in old.attacks}
    for attack in new.attacks:
        if attacks.setdefault(attack.spec, attack) != attack:
            raise UserError(f"{home} holds another attack by the name {attack.spec}: choose another --out")
    unsigned = replace(old, verdicts_sha256="", adversarial_sha256="", losses_sha256="", record_sha256="")
    longer = replace(
        unsigned,
        attacks=tuple(attacks.values()),
        adaptive=tuple(dict.fromkeys([*old.adaptive, *new.adaptive])),
        adaptive_missing={**old.adaptive_missing, **new.adaptive_missing},
        sources=files,
    )
    return _gone_on(longer, new)


def _gone_on(old: Record, new: Record) -> Record:
    session = Session(command=new.command, start=new.start, versions=new.versions, commit=new.commit, dirty=new.dirty)
    return replace(old, resumed=(*old.resumed, session), finished=False)


def first_difference(old: Record, new: Record, keys: Iterable[str]) -> str | None:
    """What an old record has otherwise than a new one in some keys or in its model's behaviour, in words, if anything.

    What older runs do not say of their model is not compared.
    """
    unsaid = {key for key in _MODEL_KEYS if key not in old.order}
    for key in keys:
        if key not in unsaid and getattr(old, key) != getattr(new, key):
            return _in_words(key, old, new)
    return behaviour.between(old, new)


def unproven(home: Path, old: Record) -> list[str]:
    """What a run's record does not say, so that nobody can tell whether it goes on with the same model."""
    unsaid = [key for key in _MODEL_KEYS if key not in old.order]
    return (
        [f"{home} does not say its model's {', '.join(unsaid)}: that it is the same model is not proven"]
        if unsaid
        else []
    )


def _in_words(key: str, old: Record, new: Record) -> str:
    if key == "sources" and old.sources is not None and new.sources is not None:
        names = [name for name in {**old.sources, **new.sources} if old.sources.get(name) != new.sources.get(name)]
        return f"another {', '.join(names)}"
    shown = [json.dumps(side.to_dict().get(key, getattr(side, key)), default=repr) for side in (old, new)]
    if max(map(len, shown)) > 80:
        return f"other {key}" if key.endswith("s") else f"another {key}"
    return f"{key} {shown[0]}, not {shown[1]}"


def clean_of(rows: Iterable[list[str]]) -> dict[int, tuple[int, int]]:
    """What rows say of images: label and clean prediction."""
    return {int(index): (int(label), int(clean_pred)) for index, label, clean_pred, *_ in rows}


def refuse_other_clean(home: Path, old: Clean, new: Clean) -> None:
    """Refuse to go on where images have another label or clean prediction than the rows that are there say.

    Raises:
        UserError: one has; the text names the image.
    """
    for index, (label, clean_pred) in old.items():
        known = new.get(index, (label, clean_pred))
        if known[0] != label:
            raise UserError(f"{home} has the label {label} for image {index}, not {known[0]}: choose another --out")
        if known[1] != clean_pred:
            what = f"a model that predicts {clean_pred} for the clean image {index}, not {known[1]}"
            raise UserError(f"{home} was made with {what}: choose another --out")
