"""Cross-entropy around clean images, along the gradient's sign and a random sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch

from bench.core.fields import bounded
from bench.core.registry import probes
from bench.core.types import Classifier
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.ops import losses, norms, passes, rng


@probes.register("rademacher_surface")
@dataclass(frozen=True)
class RademacherSurface:
    """CE at x + a sign(grad CE) + b r, r of independent random signs (Engstrom et al. 2018; ER-Classifier, figure 4).

    Points are not clipped to [0, 1]. Where the gradient is exactly zero the first direction is too, and the surface is
    flat along it.

    Args:
        reach: a and b are in [-reach, reach]; the paper prints no range, 8/255 is ours.
        points: a grid of so many by so many.
        images: how many of the run's first clean images.
    """

    reach: float = bounded(8 / 255, above=0)
    points: int = bounded(21, low=1)
    images: int = bounded(1, low=1)

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, model: Classifier, run: ProbedRun) -> pd.DataFrame:
        """Columns index, label, along, across, loss (nats), prediction; a row a point."""
        seed = int(run.record.get("seed", 0))
        shown = run.clean.select(slice(0, self.images))
        rows = [self._surface(model, part, seed) for part in _one_by_one(run, shown)]
        return pd.concat(rows, ignore_index=True)

    def _surface(self, model: Classifier, image: Images, seed: int) -> pd.DataFrame:
        x, y = image.x, image.y
        _, _, gradient = passes.input_gradient(losses.ce, model, x, y)
        signs = rng.signs(rng.keys(seed, image.indices, "rademacher surface"), x.shape[1:])
        ticks = torch.linspace(-self.reach, self.reach, self.points, dtype=torch.float64, device=x.device)
        along, across = (part.flatten() for part in torch.meshgrid(ticks, ticks, indexing="ij"))
        a, b = (norms.per_example(part.to(x), x) for part in (along, across))
        logits = passes.reference_outputs(model, x + a * gradient.sign() + b * signs).cpu()
        loss = losses.cross_entropy(logits.double(), y.cpu().expand(len(logits)))
        about = {"index": int(image.indices), "label": int(y)}
        axes = {"along": along.tolist(), "across": across.tolist()}
        return pd.DataFrame(about | axes | {"loss": loss.tolist(), "prediction": logits.argmax(1).tolist()})


def _one_by_one(run: ProbedRun, images: Images) -> list[Images]:
    return [part.select(slice(at, at + 1)) for part in run.batches(images) for at in range(len(part))]
