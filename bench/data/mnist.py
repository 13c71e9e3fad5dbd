"""MNIST: handwritten digits, 28x28 grey (LeCun, Bottou, Bengio and Haffner 1998), as idx-ubyte files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from bench.core.registry import datasets
from bench.data.formats import DIGITS, Bytes, Source, idx
from bench.data.official import OfficialFile, Published

# The author's page comes second: it often answers with an error page.
_HOSTS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")


_MOST = 16 + 60_000 * 28 * 28


def _file(name: str, sha256: str) -> OfficialFile:
    return OfficialFile(name, sha256, tuple(host + name for host in _HOSTS), most=_MOST)


def _decode(sources: Sequence[Source]) -> tuple[Bytes, NDArray[Any]]:
    images, labels = sources
    return idx(images, 3)[:, None], idx(labels, 1)


MNIST = Published(
    name="mnist",
    classes=DIGITS,
    layouts=("mnist", "mnist/raw", "MNIST/raw", "MNIST", ""),
    parts={
        "train": (
            _file("train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            _file("train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ),
        "test": (
            _file("t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            _file("t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
    },
    decode=_decode,
)
datasets.register("mnist")(MNIST)
