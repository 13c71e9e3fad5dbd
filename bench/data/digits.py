"""digits: handwritten digits, 8x8 grey (Alpaydin and Kaynak 1998), inside scikit-learn; needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.registry import datasets
from bench.core.types import ImageSet
from bench.data.formats import DIGITS, image_set, known_split

_TRAIN = 1437


@dataclass(frozen=True)
class Digits:
    """The 1797 images in their order: the first 1437 are `train`, the last 360 `test`; 16 is white."""

    name: str = "digits"
    splits: tuple[str, ...] = ("train", "test")
    files: tuple[()] = ()

    def load(self, split: str, directories: Sequence[Path] = ()) -> ImageSet:
        """A whole split; `directories` are not needed.

        Raises:
            UserError: no such split.
        """
        from sklearn.datasets import load_digits  # slow to import, and only this data set needs it

        known_split(self.name, split, self.splits)
        everything = load_digits()
        part = slice(None, _TRAIN) if split == "train" else slice(_TRAIN, None)
        pixels = everything.images[part, None].astype(np.uint8)
        return image_set(self.name, split, pixels, everything.target[part], DIGITS, white=16)

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are inside scikit-learn."""
        return []


datasets.register("digits")(Digits())
