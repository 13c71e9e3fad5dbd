"""Adversarial examples of a run, stored so that they can be judged again without attacking.

While a run goes on every chunk is a file of its own; `merge` joins them into `adversarial.npz`: `indices`, `attacks`,
`norms` (n,), `eps` (n,), NaN for minimal attacks, `images` (n, C, H, W) float32, and once for each index
`clean_indices` (m,) and `clean` (m, C, H, W), so that sizes can be measured again without the data set.
"""

from __future__ import annotations

import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.core import files
from bench.core.types import UserError, Verdict
from bench.store import runs

if TYPE_CHECKING:
    import pandas as pd

_ROWS = ("indices", "attacks", "norms", "eps", "images")
_FIELDS = (*_ROWS, "clean_indices", "clean")
_KINDS = dict(zip(_FIELDS, ("i", "U", "U", "f", "f", "i", "f"), strict=True))
"""The kind of number or text in each array, as NumPy writes it."""


@dataclass(frozen=True)
class Stored:
    """The adversarial examples of a run, one entry a row of `verdicts.csv`; `eps` is NaN for minimal attacks."""

    indices: npt.NDArray[np.int64]
    attacks: npt.NDArray[np.str_]
    norms: npt.NDArray[np.str_]
    eps: npt.NDArray[np.float64]
    images: npt.NDArray[np.float32]
    clean_indices: npt.NDArray[np.int64]
    clean: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)


Images = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""The adversarial and the clean images of some rows, each (n, C, H, W)."""


def add(directory: Path, rows: Sequence[Verdict], images: Images) -> None:
    """Store the adversarial examples of n rows, and their clean images, beside those already there.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    if not rows:
        return
    folder = directory / "adversarial.parts"
    adversarial, clean = (np.ascontiguousarray(half, dtype=np.float32) for half in images)
    indices = np.array([row.index for row in rows], dtype=np.int64)
    clean_indices, first = np.unique(indices, return_index=True)
    part = Stored(
        indices,
        np.array([row.attack for row in rows], dtype=np.str_),
        np.array([row.norm for row in rows], dtype=np.str_),
        np.array([np.nan if row.eps is None else row.eps for row in rows], dtype=np.float64),
        adversarial,
        clean_indices,
        clean[first],
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
        runs.trial(attack, norm, None if np.isnan(eps) else eps, index): place
        for place, (index, attack, norm, eps) in enumerate(zip(*(joined[name] for name in _ROWS[:4]), strict=True))
    }
    table = runs.load(directory).verdicts
    wanted = zip(table["attack"], table["norm"], table["eps"], table["index"], strict=True)
    keys = [runs.trial(attack, norm, None if np.isnan(eps) else eps, index) for attack, norm, eps, index in wanted]
    order = [last[key] for key in keys if key in last]
    clean_indices, first = np.unique(joined["clean_indices"], return_index=True)
    ordered = {name: joined[name][order] for name in _ROWS}
    _write(merged, Stored(**ordered, clean_indices=clean_indices, clean=joined["clean"][first]))
    # All of it: a save that was killed leaves a file of another name.
    shutil.rmtree(folder)


def load(directory: Path | str) -> Stored:
    """Read the adversarial examples of a finished run.

    Raises:
        UserError: there are none, the run is not finished, or the file is damaged.
    """
    path = Path(directory) / "adversarial.npz"
    if (Path(directory) / "adversarial.parts").exists():
        raise UserError(f"{directory} is not finished: continue it with --resume")
    if not path.exists():
        raise UserError(f"{directory} holds no adversarial examples: run it with --save-adversarial")
    return _read(path)


def places(stored: Stored, verdicts: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the adversarial and the clean image of each row (n,) are stored, or -1."""
    keys = zip(stored.attacks, stored.norms, stored.eps, stored.indices, strict=True)
    adversarial = {_trial(*key): place for place, key in enumerate(keys)}
    clean = {int(index): place for place, index in enumerate(stored.clean_indices)}
    wanted = zip(*(verdicts[name] for name in ("attack", "norm", "eps", "index")), strict=True)
    both = [(adversarial.get(_trial(*key), -1), clean.get(int(key[-1]), -1)) for key in wanted]
    pairs = np.array(both, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _trial(attack: str, norm: str, eps: float, index: int) -> runs.Trial:
    return runs.trial(str(attack), str(norm), None if np.isnan(eps) else float(eps), index)


def by_trial(stored: Stored, verdicts: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Images]]:
    """The rows of each attack, norm and eps with their images.

    Raises:
        UserError: a row has no image.
    """
    everywhere = verdicts.assign(**dict(zip(("_adversarial", "_clean"), places(stored, verdicts), strict=True)))
    for (attack, _, _), placed in everywhere.groupby(["attack", "norm", "eps"], dropna=False, sort=False):
        adversarial, clean = (placed[name].to_numpy() for name in ("_adversarial", "_clean"))
        rows = placed.drop(columns=["_adversarial", "_clean"])
        if (adversarial < 0).any() or (clean < 0).any():
            raise UserError(f"some rows of {attack} have no stored image: the run was made without --save-adversarial")
        yield rows, (stored.images[adversarial], stored.clean[clean])


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz")) if folder.is_dir() else []


def _write(path: Path, stored: Stored) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(stored, name) for name in _FIELDS}
    np.savez(content, **arrays)
    files.write_atomically(path, content.getvalue())


def _read(path: Path) -> Stored:
    again = "give back the file as it was, or run it again with --save-adversarial"
    files.check_unpacked(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            stored = Stored(*(arrays[name] for name in _FIELDS))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        TypeError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{path} is damaged ({files.one_line(error)}): {again}") from None
    for fault in _misshapen(stored):
        raise UserError(f"{path} is damaged ({fault}): {again}")
    return stored


def _misshapen(stored: Stored) -> Iterator[str]:
    """What arrays of a file cannot be those of a run, as texts."""
    for name, kind in _KINDS.items():
        array = getattr(stored, name)
        if array.dtype.kind != kind:
            yield f"{name} is {array.dtype}"
        sides = 4 if name in ("images", "clean") else 1
        if array.ndim != sides:
            yield f"{name} has the shape {array.shape}"
    lengths = {name: getattr(stored, name).shape[:1] for name in _FIELDS}
    if len({lengths[name] for name in _ROWS}) > 1 or lengths["clean_indices"] != lengths["clean"]:
        yield "its arrays differ in length"
    if stored.images.shape[1:] != stored.clean.shape[1:]:
        yield f"images {stored.images.shape[1:]} and clean images {stored.clean.shape[1:]} differ in shape"
    if len(set(stored.clean_indices.tolist())) < len(stored.clean_indices):
        yield "a clean image stands there twice"
