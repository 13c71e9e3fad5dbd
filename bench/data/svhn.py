"""SVHN: street view house numbers, cropped digits, 32x32 colour (Netzer et al. 2011), as MATLAB 5 files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from bench.core.registry import datasets
from bench.data import formats
from bench.data.official import OfficialFile, Published


def _file(name: str, sha256: str) -> OfficialFile:
    return OfficialFile(name, sha256, (f"http://ufldl.stanford.edu/housenumbers/{name}",))


def _decode(sources: Sequence[formats.Source]) -> tuple[formats.Bytes, NDArray[Any]]:
    return formats.svhn(sources[0])


SVHN = Published(
    name="svhn",
    classes=formats.DIGITS,
    layouts=("svhn", "SVHN", ""),
    parts={
        "train": (_file("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),),
        "test": (_file("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),),
    },
    decode=_decode,
)
datasets.register("svhn")(SVHN)
