"""CIFAR-100: photographs of 100 classes, 32x32 colour (Krizhevsky 2009), in the binary version, with fine labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from bench.core.registry import datasets
from bench.data.formats import Bytes, Source, cifar
from bench.data.official import Archive, OfficialFile, Published, Reordered

_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
# The images of the official files, put together from a copy with a folder a class, which does not tell their order.
_IN_TURN = "one image of each class in turn"


def _decode(sources: Sequence[Source]) -> tuple[Bytes, NDArray[Any]]:
    # A record starts with the coarse label (20 superclasses), then the fine one.
    pixels, labels = cifar(sources[0], label_bytes=2)
    return pixels, labels[:, 1]


CIFAR100 = Published(
    name="cifar100",
    classes=tuple(_CLASSES.split()),
    layouts=("cifar100/cifar-100-binary", "cifar-100-binary", "cifar100", ""),
    parts={
        "train": (
            OfficialFile(
                "train.bin",
                "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
                reordered=(Reordered("0acb903a253186f54d6446160ccce370c868b94c2f36fcff17d2184d93e80617", _IN_TURN),),
            ),
        ),
        "test": (
            OfficialFile(
                "test.bin",
                "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
                reordered=(Reordered("185c3971cdb5e3423792e1c143df6d9c63972141c77b43afe27e5f8d0b32b6c3", _IN_TURN),),
            ),
        ),
    },
    decode=_decode,
    archive=Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder="cifar-100-binary",
    ),
)
datasets.register("cifar100")(CIFAR100)
