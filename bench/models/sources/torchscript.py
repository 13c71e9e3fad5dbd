"""TorchScript files: `torchscript:net.pt`. Such a file is a program, and loading a model of it runs what it holds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from bench.core.files import check_size
from bench.core.registry import model_sources
from bench.models.preprocessing import normalising
from bench.models.sources.source import Sourced, a_file, file_hash, library, loading


@model_sources.register("torchscript")
@dataclass(frozen=True)
class TorchScript:
    """A model that `torch.jit.save` wrote.

    Args:
        name: the file.
        home: where relative paths start.
        mean: a number a channel, taken from images in [0, 1] before the model sees them.
        std: what the rest is divided by.
    """

    runs_code: ClassVar[bool] = True
    library: ClassVar[str] = "torch"
    names: ClassVar[str] = "FILE"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def load(self) -> Sourced:
        """The model, on the CPU.

        Raises:
            UserError: there is no such file, or it is no TorchScript.
        """
        what = f"torchscript:{self.name}"
        file = a_file(self.name, self.home, what)
        check_size(file)
        remedy = "give a file that torch.jit.save wrote; for a state_dict, add a stanza to checkpoints.toml"
        with warnings.catch_warnings(), loading(what, remedy):
            warnings.simplefilter("ignore")  # that the format is an old one
            model: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        steps = normalising({"mean": self.mean, "std": self.std} if self.mean or self.std else {}, what)
        return Sourced(model.eval(), steps, origin={"source": library("torch"), "files": file_hash(file)})
