"""Models in ONNX files, as onnx2torch reads them: `onnx:net.onnx`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from bench.core.extras import extra, imported
from bench.core.registry import model_sources
from bench.models.sources.single_file import SingleFile
from bench.models.sources.source import loading


@model_sources.register("onnx")
@dataclass(frozen=True)
class Onnx(SingleFile):
    """A model of an ONNX file, made of torch's operations, so that it has gradients; fields as in `SingleFile`."""

    kind: ClassVar[str] = "onnx"
    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "onnx2torch"

    def read(self, file: Path, what: str) -> nn.Module:
        """See `SingleFile`."""
        convert = imported("onnx2torch", "onnx2torch", extra("onnx")).convert
        with loading(what, "export the model again, with operations that onnx2torch knows"):
            model: nn.Module = convert(str(file))
        return model
