"""An attack that changes the images that it is given and returns them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Writing:
    """Brightens the images in place."""

    needs: ClassVar = ()
    norms: ClassVar = ("linf",)
    minimal: ClassVar = False

    def __call__(self, model, x, y, budget, keys):
        return x.mul_(0.9)
