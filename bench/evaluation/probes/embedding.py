"""Features in two dimensions, clean and adversarial ones together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from bench.core.fields import bounded
from bench.core.registry import probes, suggestion
from bench.core.types import HasFeatures, UserError
from bench.evaluation.probes.last_iterates import last_iterates
from bench.evaluation.probes.probe import Images, ProbedRun
from bench.ops import rng


@probes.register("embedding")
@dataclass(frozen=True)
class Embedding:
    """t-SNE of penultimate features (van der Maaten and Hinton 2008), as in MAT's figure 1 and ADR's figures 3 and 4.

    The layout starts from the principal components.

    Args:
        clean: how many clean images, drawn by key.
        adversarial: up to how many of those that `attack` broke, drawn by key.
        negative: up to how many of the first images that PGD, all its steps taken, does not fool, where it ended: ADR's
            negative adversarial examples, told by a prediction that is the label.
        attack: its label in the run; empty for the run's first.
        perplexity: of the embedding.
    """

    clean: int = bounded(1000, low=1)
    adversarial: int = bounded(300, low=1)
    negative: int = bounded(0, low=0)
    attack: str = ""
    perplexity: float = bounded(30.0, above=0)

    needs: ClassVar[tuple[str, ...]] = ("features", "classify")

    def __call__(self, model: HasFeatures, run: ProbedRun) -> pd.DataFrame:
        """Columns attack, norm, eps, index, label, prediction, entropy (nats), x, y; a row a point."""
        seed = run.record.seed
        attacked = self._attacked(run)
        shown = [_drawn(run.clean, self.clean, seed)]
        shown += [_drawn(part.select(part.broken), self.adversarial, seed) for part in attacked]
        shown += self._negative(model, run)
        answers = [run.features(model, images) for images in shown]
        z = torch.cat([features for features, _ in answers])
        if len(z) <= self.perplexity:
            needed = f"more than {self.perplexity:g} points, and there are {len(z)}"
            raise UserError(f"embedding needs {needed}: give a larger run or a smaller perplexity")
        places = TSNE(
            perplexity=self.perplexity, init="pca", learning_rate="auto", random_state=seed % 2**32
        ).fit_transform(z.numpy())
        table = pd.concat([_rows(images, logits) for images, (_, logits) in zip(shown, answers, strict=True)])
        return table.reset_index(drop=True).assign(x=places[:, 0].astype(float), y=places[:, 1].astype(float))

    def _negative(self, model: HasFeatures, run: ProbedRun) -> list[Images]:
        if not self.negative:
            return []
        if run.record.eps is None:
            raise UserError("negative examples need the eps of a run, and this one has none or several")
        parts, left = [], self.negative
        for part in last_iterates(model, run):
            parts.append(part.select((~part.broken).nonzero().flatten()[:left]))
            left -= len(parts[-1])
            if not left:
                break
        return parts

    def _attacked(self, run: ProbedRun) -> tuple[Images, ...]:
        known = list(dict.fromkeys(part.attack for part in run.attacked))
        if self.attack and self.attack not in known:
            raise UserError(f"the run has no attack {self.attack!r}: {suggestion(self.attack, known)}")
        wanted = self.attack or next(iter(known), "")
        return tuple(part for part in run.attacked if part.attack == wanted)


def _drawn(images: Images, count: int, seed: int) -> Images:
    """At most `count` of the images, drawn by key, in their order."""
    draws = rng.uniform(rng.keys(seed, images.indices, "embedding"), ())
    return images.select(draws.argsort(stable=True)[:count].sort().values)


def _rows(images: Images, logits: Tensor) -> pd.DataFrame:
    shares = logits.double().softmax(1)
    return pd.DataFrame(
        images.about()
        | {
            "index": images.indices.tolist(),
            "label": images.y.tolist(),
            "prediction": logits.argmax(1).tolist(),
            "entropy": torch.special.entr(shares).sum(1).tolist(),
        }
    )
