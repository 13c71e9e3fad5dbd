"""torchvision's image classifiers: `torchvision:resnet18`. The library is imported when one is named, and only then."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.core.extras import extra, imported
from bench.core.fields import bounded
from bench.core.images import Expected
from bench.core.registry import model_sources, suggestion
from bench.core.types import UserError
from bench.models.preprocessing import Preprocessing
from bench.models.sources.source import Sourced, a_file, file_hash, library, loading
from bench.models.weights import fit, read_tensors, size_of


@model_sources.register("torchvision")
@dataclass(frozen=True)
class Torchvision:
    """A classifier of `torchvision.models`.

    Args:
        name: as torchvision names it.
        home: where relative paths start.
        weights: its published weights, such as `DEFAULT` or `IMAGENET1K_V1`, or a file of tensors.
        num_classes: how many classes it tells apart, with weights of a file.
    """

    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "torchvision"
    names: ClassVar[str] = "NAME"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    weights: str = "DEFAULT"
    num_classes: int | None = bounded(None, low=2)

    def load(self) -> Sourced:
        """The model with mean and std of its weights' own transforms in front of it, those of ImageNet for a file.

        Raises:
            UserError: torchvision is missing, knows no such model, or cannot get its weights; or they do not fit.
        """
        models = imported("torchvision", "torchvision.models", extra("torchvision"))
        what = f"torchvision:{self.name}"
        if self.name not in models.list_models(module=models):
            raise UserError(f"torchvision has no model {self.name!r}: {suggestion(self.name, models.list_models())}")
        origin: dict[str, Any] = {"source": library("torchvision")}
        with loading(what, "see torchvision's documentation for its weights"):
            published = models.get_model_weights(self.name)
            known = self.weights if self.weights in published.__members__ else ""
            chosen = published[known or "DEFAULT"]
            if known:
                model = models.get_model(self.name, weights=chosen)
                origin["weights"] = str(chosen.url)
            else:
                file = a_file(self.weights, self.home, what)
                given = {} if self.num_classes is None else {"num_classes": self.num_classes}
                model = models.get_model(self.name, weights=None, **given)
                fit(model, read_tensors(file, needed=size_of(model)))
                origin["files"] = file_hash(file)
            transform = chosen.transforms()
        steps = Preprocessing(mean=tuple(map(float, transform.mean)), std=tuple(map(float, transform.std)))
        classes = tuple(map(str, chosen.meta.get("categories", ()))) if known else ()
        return Sourced(model.eval(), steps, Expected(_transform(transform), classes), origin=origin)


def _transform(transform: Any) -> dict[str, Any]:
    """Its preset for evaluation, as `bench.data.transform.Transform` takes it."""
    resize, crop = (tuple(map(int, size)) for size in (transform.resize_size, transform.crop_size))
    return {"resize": resize, "crop": crop * 2 if len(crop) == 1 else crop, "interpolation": _how(transform)}


def _how(transform: Any) -> str:
    return str(getattr(transform.interpolation, "value", "bilinear"))
