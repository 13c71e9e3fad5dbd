"""The clean images and labels of a stored run against the data set that its record names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.types import ImageSet, UserError
from bench.data import loading
from bench.store import images, runs, signature
from bench.store.images import Stored


@dataclass(frozen=True)
class Compared:
    """What became of the comparison, as texts."""

    faults: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


def clean_images(made: runs.Run, data_dir: str | None) -> tuple[Tensor, Tensor]:
    """The clean images (N, C, H, W) and labels (N,) of a run, in the order of its indices.

    Of the data set that the record names, or where that is not at hand, those that the run keeps.

    Raises:
        UserError: neither is there, or the data set is not the one of the run.
    """
    record, home = made.record, made.directory or Path()
    try:
        data = loading.load(record.data, record.split or "test", data_dir, record.data_options)
    except UserError:
        if not (home / signature.IMAGES).exists():
            raise
        return _kept(made, home)
    if record.data_sha256 and data.sha256 != record.data_sha256:
        raise UserError(f"{record.data} at hand has another sha256 than run.json names: give the data of the run")
    order = {index: place for place, index in enumerate(data.indices.tolist())}
    unknown = [index for index in record.indices if index not in order]
    if unknown:
        raise UserError(f"{record.data} has no image {unknown[0]}, which run.json names: give the data of the run")
    chosen = data.select(torch.tensor([order[index] for index in record.indices]))
    return chosen.images[:], chosen.labels


def _kept(made: runs.Run, home: Path) -> tuple[Tensor, Tensor]:
    kept = images.load(home)
    places = {int(index): place for place, index in enumerate(kept.clean_indices)}
    labels = made.verdicts.drop_duplicates("index").set_index("index")["label"]
    if any(index not in places or index not in labels.index for index in made.record.indices):
        raise UserError(f"{home / signature.IMAGES} lacks images of the run: give its data with --data-dir")
    chosen = [places[index] for index in made.record.indices]
    return torch.tensor(kept.clean[chosen]), torch.tensor(labels.loc[list(made.record.indices)].to_numpy())


def against_data(made: runs.Run, kept: Stored, data_dir: str | None) -> Compared:
    """Hold clean images and labels to the data set, image by image, where it is at hand."""
    record = made.record
    name = f"{record.data} {record.split}".strip()
    try:
        data = loading.load(record.data, record.split or "test", data_dir, record.data_options)
    except UserError as fault:
        return Compared(unproven=(f"that clean images and labels are those of {name}, which is not at hand ({fault})",))
    wrong = tuple(_faults(made, kept, data, name))
    if wrong:
        return Compared(faults=wrong)
    return Compared(proven=(f"clean images and labels are those of {name}, index by index",))


def _faults(made: runs.Run, kept: Stored, data: ImageSet, name: str) -> Iterator[str]:
    record = made.record
    if record.data_sha256 and data.sha256 != record.data_sha256:
        yield f"{name} at hand has the sha256 {data.sha256[:12]}, in run.json it has {record.data_sha256[:12]}"
    order = {index: place for place, index in enumerate(data.indices.tolist())}
    unknown = [index for index in record.indices if index not in order]
    if unknown:
        yield f"{name} has no image {unknown[0]}, which run.json names"
    shape = tuple(data.images.shape[1:])
    if kept.clean.shape[1:] != shape:
        yield f"clean images are {kept.clean.shape[1:]}, those of {name} {shape}"
        return
    stored = [(int(index), place) for place, index in enumerate(kept.clean_indices) if int(index) in order]
    other = [index for index, place in stored if not np.array_equal(kept.clean[place], _image(data, order[index]))]
    if other:
        yield f"{len(other)} of {len(stored)} clean images are not those of {name}, as image {other[0]}"
    labels = made.verdicts.drop_duplicates(["index", "label"])[["index", "label"]].itertuples(index=False, name=None)
    known = data.labels.tolist()
    wrong = [index for index, label in labels if index in order and known[order[index]] != label]
    if wrong:
        yield f"{len(wrong)} images have other labels than in {name}, as image {wrong[0]}"


def _image(data: ImageSet, place: int) -> NDArray[np.float32]:
    """One image (C, H, W) of a set."""
    image: NDArray[np.float32] = data.images[place : place + 1][0].numpy()
    return image
