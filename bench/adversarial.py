"""Adversarial examples of a run, stored so that they can be judged again without attacking.

While a run goes on every chunk is a file of its own; `merge` joins them into `adversarial.npz`: `indices`, `attacks`,
`norms` (n,), `eps` (n,), NaN for minimal attacks, and `images` (n, C, H, W) float32.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import store
from bench.types import UserError, Verdict

_FIELDS = ("indices", "attacks", "norms", "eps", "images")


@dataclass(frozen=True)
class Stored:
    """The adversarial examples of a run, one entry a row of `verdicts.csv`; `eps` is NaN for minimal attacks."""

    indices: npt.NDArray[np.int64]
    attacks: npt.NDArray[np.str_]
    norms: npt.NDArray[np.str_]
    eps: npt.NDArray[np.float64]
    images: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)


def add(directory: Path, rows: Sequence[Verdict], images: npt.NDArray[np.float32]) -> None:
    """Store the adversarial examples (n, C, H, W) of n rows beside those already there.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    if not rows:
        return
    folder = directory / "adversarial.parts"
    part = Stored(
        np.array([row.index for row in rows], dtype=np.int64),
        np.array([row.attack for row in rows], dtype=np.str_),
        np.array([row.norm for row in rows], dtype=np.str_),
        np.array([np.nan if row.eps is None else row.eps for row in rows], dtype=np.float64),
        np.ascontiguousarray(images, dtype=np.float32),
    )
    if len(part.images) != len(part):
        raise ValueError(f"{len(part)} rows but {len(part.images)} images: give one image a row")
    _write(folder / f"{len(_parts(folder)):06d}.npz", part)


def merge(directory: Path) -> None:
    """Join the chunks into `adversarial.npz`, in the order of `verdicts.csv`. Without chunks nothing happens."""
    folder = directory / "adversarial.parts"
    paths = _parts(folder)
    if not paths:
        return
    merged = directory / "adversarial.npz"
    parts = [_read(path) for path in ([merged] if merged.exists() else []) + paths]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS}
    # A chunk whose rows were lost in a crash was made again, to the same images: the later one counts.
    last = {
        store.trial(attack, norm, None if np.isnan(eps) else eps, index): place
        for place, (index, attack, norm, eps) in enumerate(zip(*(joined[name] for name in _FIELDS[:4]), strict=True))
    }
    table = store.load(directory).verdicts
    wanted = zip(table["attack"], table["norm"], table["eps"], table["index"], strict=True)
    keys = [store.trial(attack, norm, None if np.isnan(eps) else eps, index) for attack, norm, eps, index in wanted]
    order = [last[key] for key in keys if key in last]
    _write(merged, Stored(**{name: values[order] for name, values in joined.items()}))
    for path in paths:
        path.unlink()
    folder.rmdir()


def load(directory: Path | str) -> Stored:
    """Read the adversarial examples of a finished run.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = Path(directory) / "adversarial.npz"
    if not path.exists():
        raise UserError(f"{directory} holds no adversarial examples: run it with --save-adversarial")
    return _read(path)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz")) if folder.is_dir() else []


def _write(path: Path, stored: Stored) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(stored, name) for name in _FIELDS}
    np.savez(content, **arrays)
    store.write_atomically(path, content.getvalue())


def _read(path: Path) -> Stored:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Stored(*(arrays[name] for name in _FIELDS))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}): run it again with --save-adversarial") from None
