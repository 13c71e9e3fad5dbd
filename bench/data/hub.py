"""Data sets of the datasets library: `hf:OWNER/NAME`, or `hf:path` of a folder that `save_to_disk` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.extras import extra, imported
from bench.core.files import one_line, read_content
from bench.core.images import Expected
from bench.core.places import expanded, is_file, is_folder
from bench.core.registry import data_kinds
from bench.core.types import ImageSet, UserError
from bench.data.encoded import Encoded, set_of
from bench.data.formats import known_split
from bench.data.transform import transform_of

_MOST_BYTES = 1 << 28
_SAVED = ("dataset_info.json", "dataset_dict.json")


@data_kinds.register("hf")
@dataclass(frozen=True)
class Hub:
    """A data set with a column of images and one of labels.

    Args:
        path: a data set of the hub, or a folder.
        config: which of its configurations.
        image: the column of images, where there are several.
        label: that of labels, likewise.
        test: the split that is `test`, where it has another name, such as `validation`.
        resize: see `bench.data.folder`.
        crop: likewise.
        interpolation: likewise.
        middle: likewise.
        written: the whole as it was written.
        files: none that could be fetched.
    """

    path: Path = field(metadata={"bound": True})
    config: str = ""
    image: str = ""
    label: str = ""
    test: str = "test"
    resize: int | tuple[int, ...] = ()
    crop: int | tuple[int, ...] = ()
    interpolation: str = ""
    middle: str = ""
    written: str = field(default="", metadata={"bound": True})
    files: tuple[()] = field(default=(), metadata={"bound": True})
    splits: tuple[str, ...] = field(default=("train", "test"), metadata={"bound": True})

    @property
    def name(self) -> str:
        """As users write it."""
        return self.written

    def fitted(self, expected: Expected) -> tuple[Hub, dict[str, Any]]:
        """The same with the sizes of a model's configuration, where none is written, and what a record says of it."""
        if not expected.transform or self.resize or self.crop:
            return self, {}
        options = transform_of(expected.transform, self.name).recorded()
        return self.with_options(options), options

    def with_options(self, options: Mapping[str, Any]) -> Hub:
        """The same with what a record says of it."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        return replace(self, **known)

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """A whole split; `directories` are not needed.

        Raises:
            UserError: the library or the data set cannot be had, or it has no images and labels.
        """
        library = imported("datasets", "datasets", extra("hf"))
        known_split(self.name, split, self.splits)
        table = self._table(library, self.test if split == "test" else split)
        image = self._column(table, self.image, library.Image, "image")
        label = self._column(table, self.label, library.ClassLabel, "label")
        labels = np.array(table[label])
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise UserError(f"{self.name}: column {label!r} holds no labels from 0: name another, as in label='NAME'")
        encoded = table.select_columns([image]).cast_column(image, library.Image(decode=False))

        def read(place: int) -> bytes:
            return _bytes_of(encoded[place][image])

        transform = transform_of(vars(self), self.name)
        names = range(len(labels))
        pictures = Encoded([f"image {place}" for place in names], read, transform, f"{self.name}: ")
        classes = tuple(map(str, getattr(table.features[label], "names", ())))
        return set_of(pictures, labels.astype(np.int64), self.name, split, classes)

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the library has a cache of its own."""
        return []

    def _table(self, library: Any, split: str) -> Any:
        folder = expanded(str(self.path))
        try:
            if any(is_file(folder / name) for name in _SAVED):
                made = library.load_from_disk(str(folder))
                return made[split] if isinstance(made, dict) else made
            place = str(folder) if is_folder(folder) else str(self.path)
            return library.load_dataset(place, self.config or None, split=split)
        except KeyError:
            raise UserError(f"{self.name} has no split {split!r}: name it, as in test='validation'") from None
        except Exception as fault:
            text = f"{type(fault).__name__}: {one_line(fault)[:200]}"
            raise UserError(
                f"{self.name} cannot be loaded ({text}): give a data set in the cache or a folder"
            ) from fault

    def _column(self, table: Any, name: str, kind: Any, what: str) -> str:
        if name in table.column_names:
            return name
        known = [column for column, feature in table.features.items() if isinstance(feature, kind)]
        known = known or [column for column in (what, f"{what}s") if column in table.column_names]
        if name or len(known) != 1:
            columns = ", ".join(table.column_names)
            raise UserError(f"{self.name} has the columns {columns}: name the {what}s, as in {what}='NAME'")
        return str(known[0])


def _bytes_of(cell: Mapping[str, Any]) -> bytes:
    """The bytes of an undecoded image: held in the table, or in a file."""
    content = cell.get("bytes")
    return bytes(content) if content is not None else read_content(Path(str(cell["path"])), _MOST_BYTES)
