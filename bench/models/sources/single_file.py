"""What models that one file holds have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from torch import nn

from bench.core.files import check_size
from bench.models.preprocessing import normalising
from bench.models.sources.source import Sourced, a_file, file_hash, library


@dataclass(frozen=True)
class SingleFile:
    """A model of one file; a subclass says in `read` how it is read, and names its `kind` and `library`.

    Args:
        name: the file.
        home: where relative paths start.
        mean: a number a channel, taken from images in [0, 1] before the model sees them.
        std: what the rest is divided by.
    """

    kind: ClassVar[str]
    runs_code: ClassVar[bool]
    library: ClassVar[str]
    names: ClassVar[str] = "FILE"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def load(self) -> Sourced:
        """The model, on the CPU.

        Raises:
            UserError: the library is missing, there is no such file, or it holds what cannot be read.
        """
        what = f"{self.kind}:{self.name}"
        file = a_file(self.name, self.home, what)
        check_size(file)
        model = self.read(file, what).eval()
        steps = normalising({"mean": self.mean, "std": self.std} if self.mean or self.std else {}, what)
        return Sourced(model, steps, origin={"source": library(self.library), "files": file_hash(file)})

    def read(self, file: Path, what: str) -> nn.Module:
        """The model of a file; `what` names it in errors."""
        raise NotImplementedError
