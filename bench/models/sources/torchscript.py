"""TorchScript files: `torchscript:net.pt`. Such a file is a program, and loading a model of it runs what it holds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from bench.core.registry import model_sources
from bench.models.sources.single_file import SingleFile
from bench.models.sources.source import loading


@model_sources.register("torchscript")
@dataclass(frozen=True)
class TorchScript(SingleFile):
    """A model that `torch.jit.save` wrote; fields as in `SingleFile`."""

    kind: ClassVar[str] = "torchscript"
    runs_code: ClassVar[bool] = True
    library: ClassVar[str] = "torch"

    def read(self, file: Path, what: str) -> nn.Module:
        """See `SingleFile`."""
        remedy = "give a file that torch.jit.save wrote; for a state_dict, add a stanza to checkpoints.toml"
        with warnings.catch_warnings(), loading(what, remedy):
            warnings.simplefilter("ignore")  # that the format is an old one
            model: nn.Module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
        return model
