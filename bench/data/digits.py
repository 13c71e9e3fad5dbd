"""digits: handwritten digits, 8x8 grey (Alpaydin and Kaynak 1998), inside scikit-learn; needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core.files import read_content
from bench.core.places import search
from bench.core.registry import datasets
from bench.core.types import ImageSet, UserError
from bench.data.formats import DIGITS, image_set, known_split

_TRAIN = 1437


def _everything() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All images (1797, 1, 8, 8), of 0 to 16, and labels: scikit-learn's own file, without the cost of importing it.

    Raises:
        UserError: scikit-learn is not installed, or keeps the file elsewhere.
    """
    package = find_spec("sklearn")
    places = [Path(place) for place in (package.submodule_search_locations or [] if package else [])]
    path = search("datasets/data/digits.csv.gz", places)
    if path is None:
        raise UserError("digits needs the file datasets/data/digits.csv.gz of scikit-learn: install it again")
    rows = np.loadtxt(read_content(path).decode().splitlines(), delimiter=",", dtype=np.int64)
    return rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), rows[:, -1]


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
        known_split(self.name, split, self.splits)
        part = slice(None, _TRAIN) if split == "train" else slice(_TRAIN, None)
        pixels, labels = _everything()
        return image_set(self.name, split, pixels[part], labels[part], DIGITS, white=16)

    def fetch(self, directory: Path) -> list[Path]:
        """Nothing: the images are inside scikit-learn."""
        return []


datasets.register("digits")(Digits())
