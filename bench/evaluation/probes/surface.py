"""Cross-entropy around an attacked image and around its features, for a fooled and an unfooled example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import Classifier, HasFeatures, UserError
from bench.evaluation.probes.last_iterates import last_iterates
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.ops import losses, norms, passes, rng

_EXAMPLES = {"fooled": True, "unfooled": False}
_COLUMNS = ("example", "space", "index", "label", "eps", "along", "across", "loss", "prediction")


def orthogonal_signs(slope: Tensor, keys: Tensor) -> Tensor:
    """Random -1 and 1 (N, P) orthogonal to the signs of slopes (N, P), by key.

    It agrees with half of the signs that are not 0 and opposes the others; of an odd number, one entry is 0.
    """
    signs = slope.sign()
    draws = rng.uniform(rng.fold(keys, 0), slope.shape[1:])
    rank = (draws + 2 * (signs == 0)).argsort(dim=1, stable=True).argsort(dim=1)
    count = (signs != 0).sum(1, keepdim=True)
    half = count // 2
    agreement = (rank < half).to(signs.dtype) - (rank >= count - half).to(signs.dtype)
    return torch.where(signs == 0, rng.signs(rng.fold(keys, 1), slope.shape[1:]), signs * agreement)


@probes.register("surface")
@dataclass(frozen=True)
class Surface:
    """The loss surfaces of ADR (Bui et al. 2020, figures 1 and 2) around the last iterates of PGD, within eps.

    Of the first image that is right and that PGD, all its steps taken, fools, and of the first that it does not. Once
    over the input, once over the features of that iterate with the head alone. `along` is the sign of the gradient of
    cross-entropy (Engstrom et al. 2018; the released code adds the raw gradient), `across` random signs orthogonal to
    it. Points are not clipped.

    Args:
        points: a grid of so many by so many.
        limit: how many of the run's first images are tried.
    """

    points: int = bounded(17, low=1)
    limit: int = bounded(1000, low=1)

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def __call__(self, model: HasFeatures, run: ProbedRun) -> pd.DataFrame:
        """Columns example, space, index, label, eps, along, across, loss (nats), prediction; a row a point."""
        record = run.record
        if record.get("eps") is None:
            raise UserError("surface needs the eps of a run, and this one has none or several: probe another run")
        parts = []
        for example, images in _examples(model, run.first(self.limit)).items():
            keys = rng.keys(int(record["seed"]), images.indices, "surface")
            for space, at, call in _spaces(model, images):
                grid = _grid(call, at, images.y, keys, float(record["eps"]), self.points)
                about = {"example": example, "space": space, "index": int(images.indices), "label": int(images.y)}
                parts.append(pd.DataFrame(about | {"eps": float(record["eps"])} | grid))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(_COLUMNS))


def _spaces(model: HasFeatures, images: Images) -> list[tuple[str, Tensor, Classifier]]:
    """Where surfaces are drawn: a name, the point (1, ...), and what gives logits there."""
    z = passes.reference_outputs(model.features, images.x)
    return [("input", images.x, model), ("latent", z, model.classify)]


def _examples(model: HasFeatures, run: ProbedRun) -> dict[str, Images]:
    """The first image of each kind, attacked; one that no image is of is left out."""
    examples: dict[str, Images] = {}
    for attacked in last_iterates(model, run):
        for name, wanted in _EXAMPLES.items():
            places = (attacked.broken == wanted).nonzero().flatten()
            if len(places) and name not in examples:
                examples[name] = attacked.select(places[:1])
        if len(examples) == len(_EXAMPLES):
            break
    return {name: examples[name] for name in _EXAMPLES if name in examples}


def _grid(call: Classifier, at: Tensor, y: Tensor, keys: Tensor, eps: float, points: int) -> dict[str, list[float]]:
    """Loss and prediction on the grid around one point (1, ...)."""
    _, _, slope = passes.input_gradient(losses.ce, call, at, y)
    slope = slope.flatten(1)
    across = orthogonal_signs(slope, keys).view_as(at)
    along = slope.sign().view_as(at)
    ticks = torch.linspace(-eps, eps, points, dtype=torch.float64, device=at.device)
    a, b = (part.flatten() for part in torch.meshgrid(ticks, ticks, indexing="ij"))
    where = at + norms.per_example(a.to(at), at) * along + norms.per_example(b.to(at), at) * across
    logits = passes.reference_outputs(call, where).cpu()
    loss = losses.cross_entropy(logits.double(), y.cpu().expand(len(logits)))
    axes = {"along": a.tolist(), "across": b.tolist()}
    return axes | {"loss": loss.tolist(), "prediction": logits.argmax(1).tolist()}
