"""CIFAR-10: photographs of 10 classes, 32x32 colour (Krizhevsky 2009), in the binary version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.registry import datasets
from bench.data.formats import Bytes, Source, cifar
from bench.data.official import Archive, OfficialFile, Published

_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"


_MOST = 10_000 * (1 + 3 * 32 * 32)


def _file(name: str, sha256: str) -> OfficialFile:
    return OfficialFile(name, sha256, most=_MOST)


def _decode(sources: Sequence[Source]) -> tuple[Bytes, NDArray[Any]]:
    pixels, labels = zip(*(cifar(source, label_bytes=1) for source in sources), strict=True)
    return np.concatenate(pixels), np.concatenate(labels)[:, 0]


CIFAR10 = Published(
    name="cifar10",
    classes=tuple(_CLASSES.split()),
    layouts=("cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", "cifar10", ""),
    parts={
        "train": (
            _file("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            _file("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            _file("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            _file("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            _file("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ),
        "test": (_file("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
    },
    decode=_decode,
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder="cifar-10-batches-bin",
    ),
)
datasets.register("cifar10")(CIFAR10)
