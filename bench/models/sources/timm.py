"""timm's image classifiers: `timm:resnet18.a1_in1k`, with weights of its own, of a file, or of a folder it saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.core.extras import extra, imported
from bench.core.fields import bounded
from bench.core.images import Expected
from bench.core.places import expanded, is_folder
from bench.core.registry import model_sources, suggestion
from bench.core.types import UserError
from bench.models.preprocessing import Preprocessing
from bench.models.sources.source import Sourced, a_file, file_hash, library, loading
from bench.models.weights import fit, read_tensors, size_of


@model_sources.register("timm")
@dataclass(frozen=True)
class Timm:
    """A model of timm's registry, of a hub (`hf-hub:OWNER/NAME`), or of a folder that timm saved.

    Args:
        name: as timm names it, or the path of such a folder.
        home: where relative paths start.
        weights: a file of tensors in place of the published ones.
        num_classes: how many classes it tells apart, where that is not what its configuration says.
        in_chans: how many channels its images have, likewise.
        img_size: the side of its images, likewise.
    """

    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "timm"
    names: ClassVar[str] = "NAME"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    weights: str = ""
    num_classes: int | None = bounded(None, low=2)
    in_chans: int | None = bounded(None, low=1)
    img_size: int | None = bounded(None, low=1)

    def load(self) -> Sourced:
        """The model with its own mean and std in front of it.

        Raises:
            UserError: timm is missing, knows no such model, or cannot get its weights; or they do not fit.
        """
        timm = imported("timm", "timm", extra("timm"))
        what = f"timm:{self.name}"
        file = a_file(self.weights, self.home, what) if self.weights else None
        wishes = {"num_classes": self.num_classes, "in_chans": self.in_chans, "img_size": self.img_size}
        given = {name: value for name, value in wishes.items() if value is not None}
        with loading(what, "see timm's documentation for its arguments"):
            model = timm.create_model(self._known(timm), pretrained=file is None, **given).eval()
            config = timm.data.resolve_model_data_config(model)
        own: Mapping[str, Any] = model.pretrained_cfg
        origin: dict[str, Any] = {"source": library("timm")}
        if file is not None:
            fit(model, read_tensors(file, needed=size_of(model)))
            origin["files"] = file_hash(file)
        else:
            places = ("file", "hf_hub_id", "url", "tag")
            origin["weights"] = ", ".join(str(own[place]) for place in places if own.get(place))
        return Sourced(model, _preprocessing(config, own), _expected(config, own), origin=origin)

    def _known(self, timm: Any) -> str:
        """The name as `create_model` takes it."""
        folder = self.home / expanded(self.name)
        if is_folder(folder):
            return f"local-dir:{folder}"
        if ":" not in self.name and not timm.is_model(self.name.partition(".")[0]):
            remedy = suggestion(self.name, list(timm.list_models()))
            raise UserError(f"timm has no model {self.name!r}: {remedy}")
        return self.name


def _preprocessing(config: Mapping[str, Any], own: Mapping[str, Any]) -> Preprocessing:
    """Mean and std; and the size, of a model that takes no other."""
    size = (int(config["input_size"][1]), int(config["input_size"][2])) if own.get("fixed_input_size") else None
    resample = config["interpolation"] if config["interpolation"] in ("bilinear", "bicubic", "nearest") else "bicubic"
    return Preprocessing(size, resample, mean=tuple(config["mean"]), std=tuple(config["std"]))


def _expected(config: Mapping[str, Any], own: Mapping[str, Any]) -> Expected:
    """How timm's own evaluation makes images of files: scaled by the crop's share, then cropped in the middle."""
    names = own.get("label_names")
    classes = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
    height, width = (int(side) for side in config["input_size"][1:])
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    squash = config["crop_mode"] == "squash"
    if not squash and (config["crop_mode"] != "center" or height != width):
        return Expected(classes=classes)  # made by rules that bench does not have: --data says what is done
    how = config["interpolation"] if config["interpolation"] != "random" else "bilinear"
    resize = scaled if squash else scaled[:1]
    return Expected({"resize": resize, "crop": (height, width), "interpolation": how}, classes)
