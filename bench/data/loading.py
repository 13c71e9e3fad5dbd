"""Loading a data set by the name users give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.core.fields import build
from bench.core.images import Expected
from bench.core.places import directories, expanded, is_file, is_folder
from bench.core.registry import data_kinds, datasets
from bench.core.specs import parse_spec
from bench.core.text import shown
from bench.core.types import ImageSet, UserError


class DataSet(Protocol):
    """A set of labelled images in splits, as the registry holds it."""

    @property
    def name(self) -> str:
        """As users write it."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""
        ...

    def load(self, split: str, directories: Sequence[Path]) -> ImageSet:
        """A whole split from the first directory that has its files."""
        ...

    def fetch(self, directory: Path) -> list[Path]:
        """Download what `directory` lacks; the paths of all files."""
        ...


def find(name: str, options: Mapping[str, Any] | None = None) -> DataSet:
    """The data set of this name: registered, or of a kind, as `folder:PATH(crop=224)` is.

    Args:
        name: as users write it.
        options: what a run's record says of it besides.

    Raises:
        UserError: no such data set, or a field that its kind does not have.
    """
    kind, colon, rest = name.partition(":")
    if kind not in data_kinds or (not colon and name in datasets):
        known: DataSet = datasets[name]
        return known
    if not rest.strip():
        raise UserError(f"{shown(name)} names nothing: write {kind}:PATH")
    path, fields = rest, dict[str, Any]()
    if not (is_folder(expanded(rest)) or is_file(expanded(rest))):  # a path may hold brackets
        spec = parse_spec(rest, "data set")
        path, fields = spec.name, dict(spec.fields)
    dataset = build(data_kinds[kind], fields, f"data set {shown(name)}", path=Path(path), written=name)
    return dataset.with_options(options) if options else dataset  # type: ignore[no-any-return]


def fitted(dataset: DataSet, expected: Expected | None) -> tuple[DataSet, dict[str, Any]]:
    """A data set as a model's own configuration wants it, if it can be, and what a record says of it."""
    fit = getattr(dataset, "fitted", None)
    return fit(expected) if fit and expected else (dataset, {})


def load(
    name: str, split: str = "test", data_dir: str | None = None, options: Mapping[str, Any] | None = None
) -> ImageSet:
    """A whole split of a data set: images (N, C, H, W) float32 in [0, 1] in their official order.

    Files are looked for in `data_dir`, then `$BENCH_DATA`, then the user's cache.

    Raises:
        UserError: no such data set, split or `data_dir`; files that are missing, damaged or not the official ones.
    """
    return of_set(find(name, options), split, data_dir)


def of_set(dataset: DataSet, split: str = "test", data_dir: str | None = None) -> ImageSet:
    """The same of a data set that has been found."""
    if data_dir is not None and not (data_dir and is_folder(expanded(data_dir))):
        raise UserError(f"data directory {shown(data_dir)} not found: give --data-dir a directory that exists")
    return dataset.load(split, directories(data_dir))
