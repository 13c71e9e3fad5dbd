"""What the parts of `islands` are worth: on the images that `strong` leaves and that are nearest to breaking.

    python -m benchmarks.strength_beyond                      # what is missing in results/strength/beyond_ablation.csv
    python -m benchmarks.strength_beyond --model NAME --count 12

A row is a (model, seed, variant): how many of the images it breaks, the mean over images of the best margin that it
meets (logit of the best wrong class minus that of the true one; 0 for those that break), passes and CPU seconds. All
variants have about as many passes. Needs $BENCH_DATA and $BENCH_MODELS; a minute a row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor

from bench.attacks.budgeted.islands import Islands
from bench.attacks.budgeted.soft import Soft
from bench.attacks.ensembles.strong import Strong
from bench.core.files import write_atomically
from bench.core.types import Attack, Budget
from bench.evaluation.request import Request, subject
from bench.ops import active_set, passes, rng
from bench.ops.frozen import frozen

PLACE = Path("results/strength/beyond_ablation.csv")
MODELS = ("cifar_cnn_a_adv",)
_WHOLE = Islands(islands=1, generations=12)
# As many passes as twelve generations.
_STARTS = _WHOLE.starts + 12 * _WHOLE.children * _WHOLE.polish // _WHOLE.steps
VARIANTS: dict[str, Attack] = {
    "islands": _WHOLE,
    "starts alone": replace(_WHOLE, starts=_STARTS, generations=0),
    "starts alone, exact gradient": replace(_WHOLE, starts=_STARTS, generations=0, share=0.0),
    "exact gradient": replace(_WHOLE, share=0.0),
    "no patches": replace(_WHOLE, patched=0.0),
    "all patched": replace(_WHOLE, patched=1.0),
    "no linear programmes": replace(_WHOLE, pieces=0),
    "two islands of half as many generations": replace(_WHOLE, islands=2, generations=4),
}


@dataclass(frozen=True)
class Hard:
    """Images (n, C, H, W) that stand against `strong`, nearest to breaking first."""

    model: Any
    budget: Budget
    x: Tensor
    y: Tensor
    places: Tensor

    def pick(self, rows: Tensor) -> Hard:
        """Some of them."""
        budget = Budget(self.budget.norm, self.budget.bound("a choice")[rows])
        return replace(self, budget=budget, x=self.x[rows], y=self.y[rows], places=self.places[rows])


def _attacked(attack: Attack, images: Hard, seed: int, name: str) -> tuple[Tensor, Tensor, passes.Tally]:
    """Whether (n,) images break, the best margins (n,) on the way, and the passes."""
    keys = rng.keys(seed, images.places, name)
    with frozen(images.model), passes.counted(len(images.y), "cpu", images.y) as tally:
        x_adv = attack(images.model, images.x, images.y, images.budget, keys)
        broken = active_set.misclassified(passes.reference_outputs(images.model, x_adv), images.y)
    return broken, tally.trail.points(len(images.y))[:, -1], tally


def hard_images(name: str, n: int, count: int) -> Hard:
    """Of the first n images the `count` with the best margins of those that `strong` and four runs of `soft` leave."""
    tested = subject(Request(name, "", n=n))
    threat, data = tested.checkpoint.trained_for, tested.data
    assert threat is not None and threat.eps is not None
    budget = Budget(threat.norm, torch.full((len(data),), threat.eps, dtype=torch.float64))
    images = Hard(tested.model, budget, data.images, data.labels, data.indices)
    with frozen(tested.model):
        wrong = active_set.misclassified(passes.reference_outputs(tested.model, images.x), images.y)
    images = images.pick((~wrong).nonzero().squeeze(1))
    for attack in (Soft(), Strong()):
        broken, margin, _ = _attacked(attack, images, 1000, "choice")
        near = margin.where(~broken, -torch.inf).argsort(descending=True)
        images = images.pick(near[: min(4 * count, int((~broken).sum()))])
    broken, margin, _ = _attacked(Soft(restarts=4), images, 1001, "choice")
    return images.pick(margin.where(~broken, -torch.inf).argsort(descending=True)[:count])


def measured(images: Hard, attack: Attack, seed: int) -> dict[str, float]:
    """The numbers of a row."""
    began = time.process_time()
    broken, margin, tally = _attacked(attack, images, seed, "islands")
    return {
        "n": len(broken),
        "broken": int(broken.sum()),
        "margin": round(float(margin.where(~broken, 0).mean()), 5),
        "passes": round(float(tally.forwards.double().mean())),
        "seconds": round(time.process_time() - began, 1),
    }


@click.command()
@click.option(
    "--model", "models", multiple=True, default=MODELS, help="A registered model; more than one may be given."
)
@click.option("--n", default=300, help="Among how many first test images to look.")
@click.option("--count", default=12, help="How many images to attack.")
@click.option("--seed", "seeds", multiple=True, default=(0, 1), help="Seeds.")
def main(models: tuple[str, ...], n: int, count: int, seeds: tuple[int, ...]) -> None:
    rows = pd.read_csv(PLACE).to_dict("records") if PLACE.exists() else []
    done = {(row["model"], row["seed"], row["variant"]) for row in rows}
    for model in models:
        images = None
        for seed in seeds:
            for variant, attack in VARIANTS.items():
                if (model, seed, variant) in done:
                    continue
                images = images or hard_images(model, n, count)
                rows.append({"model": model, "seed": seed, "variant": variant, **measured(images, attack, seed)})
                click.echo(rows[-1])
                PLACE.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(PLACE, pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    main()
