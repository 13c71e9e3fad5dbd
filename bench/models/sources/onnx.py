"""Models in ONNX files, as onnx2torch reads them: `onnx:net.onnx`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.core.extras import extra, imported
from bench.core.files import check_size
from bench.core.registry import model_sources
from bench.models.preprocessing import normalising
from bench.models.sources.source import Sourced, a_file, file_hash, library, loading


@model_sources.register("onnx")
@dataclass(frozen=True)
class Onnx:
    """A model of an ONNX file, made of torch's operations, so that it has gradients.

    Args:
        name: the file.
        home: where relative paths start.
        mean: a number a channel, taken from images in [0, 1] before the model sees them.
        std: what the rest is divided by.
    """

    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "onnx2torch"
    names: ClassVar[str] = "FILE"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def load(self) -> Sourced:
        """The model.

        Raises:
            UserError: onnx2torch is missing, there is no such file, or it holds what onnx2torch cannot convert.
        """
        what = f"onnx:{self.name}"
        file = a_file(self.name, self.home, what)
        check_size(file)
        convert = imported("onnx2torch", "onnx2torch", extra("onnx")).convert
        with loading(what, "export the model again, with operations that onnx2torch knows"):
            model = convert(str(file)).eval()
        steps = normalising({"mean": self.mean, "std": self.std} if self.mean or self.std else {}, what)
        return Sourced(model, steps, origin={"source": library("onnx2torch"), "files": file_hash(file)})
