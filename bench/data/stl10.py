"""STL-10: photographs of 10 classes, 96x96 colour (Coates et al. 2011), in the binary version; its labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.registry import datasets
from bench.data.formats import Bytes, Source
from bench.data.official import Archive, OfficialFile, Published

_CLASSES = "airplane bird car cat deer dog horse monkey ship truck"
_SIDE = 96
# Of the single files only md5 are widely known.
_MD5 = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
}


def _decode(sources: Sequence[Source]) -> tuple[Bytes, NDArray[Any]]:
    """Images (N, 3, 96, 96), stored column by column; labels 1 to 10 become 0 to 9."""
    images, labels = sources
    pixels = np.frombuffer(images.content, np.uint8)
    if not pixels.size or pixels.size % (3 * _SIDE * _SIDE):
        raise images.fault(f"has {pixels.size:,} bytes, not a number of {_SIDE}x{_SIDE} colour images")
    y = np.frombuffer(labels.content, np.uint8)
    if not y.size or y.min() < 1:
        raise labels.fault("holds no labels, or some below 1")
    return pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 1, 3, 2), y.astype(np.int64) - 1


def _files(split: str) -> tuple[OfficialFile, ...]:
    return tuple(OfficialFile(name, _MD5[name]) for name in (f"{split}_X.bin", f"{split}_y.bin"))


STL10 = Published(
    name="stl10",
    classes=tuple(_CLASSES.split()),
    layouts=("stl10/stl10_binary", "stl10_binary", "stl10", ""),
    parts={split: _files(split) for split in ("train", "test")},
    decode=_decode,
    archive=Archive(
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        folder="stl10_binary",
    ),
)
datasets.register("stl10")(STL10)
