"""What each part of `soft` is worth, and what a softened backward pass does for minimal attacks.

    python -m benchmarks.strength_softened            # results/strength/ablation.* and softened.*, half an hour

Models that $BENCH_MODELS or $BENCH_DATA lack are left out, and named.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from torch import Tensor, nn

from bench.core.arguments import OUT
from bench.core.entry import enter
from bench.core.from_specs import attack_from
from bench.core.specs import parse_specs
from bench.core.types import Budget, Norm, UserError
from bench.data.loading import load
from bench.models import checkpoints
from bench.ops import norms, passes, rng
from bench.ops.frozen import still
from bench.report import render

_MODELS = {
    "madry_digits": 200,
    "mat_digits": 200,
    "trades_digits": 200,
    "cifar_cnn_a_adv": 300,
    "trades_mnist_smallcnn": 60,
    "madry_wrn": 40,
}
"""Images of each, the first ones of the test split."""
_PARTS = {
    "soft": "all of it",
    "soft(share=0.0)": "exact gradient",
    "soft(order='logits')": "targets by the highest logits",
    "soft(first=0.05,final=1.0)": "steps of 2.5 eps / steps",
    "soft(share=0.0,order='logits',first=0.05,final=1.0)": "none of the three",
    "soft(steps=100,targets=1)": "one target, 100 steps",
    "soft(steps=33,targets=3)": "three targets, 33 steps",
    "pma": "the probability margin instead",
    "margin(steps=100)": "the margin, untargeted",
    "apgd_t(targets=2,steps=50,order='nearest')": "Auto-PGD on the targeted ratio instead",
}
_MINIMAL: dict[Norm, tuple[str, ...]] = {
    "linf": ("fmn(steps=500)", "fmn(steps=500,share=0.3)", "minimal(soft)", "minimal(strong)"),
    "l2": (
        "fmn(steps=500)",
        "fmn(steps=500,share=0.3)",
        "alma",
        "alma(share=0.1)",
        "pdgd",
        "pdgd(share=0.1)",
        "minimal(soft)",
        "minimal(strong)",
    ),
}
_FEW = {"madry_digits": 60, "mat_digits": 60, "cifar_cnn_a_adv": 40}
"""Images that minimal attacks meet."""
_BATCH = 64
_ABLATION = (
    "What each part of soft is worth: images left standing, of the first n that are right, summed over seeds; passes "
    "an image left standing, and CPU seconds in all."
)
_SOFTENED = (
    "Minimal attacks with an exact and a softened backward pass, and by smaller and smaller budgets: median size, mean "
    "ratio to the smallest that any of them found, passes and CPU seconds an image."
)


class Right:
    """A model in evaluation mode, and the images of the first n that it gets right."""

    def __init__(self, name: str, count: int) -> None:
        loaded = checkpoints.load(name)
        self.name, self.stanza, self.model = name, loaded.checkpoint, loaded.model.eval()
        if isinstance(self.model, nn.Module):
            still(self.model)
        data = load(self.stanza.data).select(slice(0, count))
        right = torch.cat([self.predicted(part) for part in data.images.split(_BATCH)]) == data.labels
        self.n = count
        self.data = data.select(right.nonzero().squeeze(1))

    def predicted(self, x: Tensor) -> Tensor:
        """Predicted classes (n,)."""
        with torch.no_grad():
            classes: Tensor = self.model(x).argmax(1)
        return classes

    def attacked(self, written: str, norm: Norm, eps: float | None, seed: int) -> tuple[Tensor, Tensor, float]:
        """Sizes (n,) of what breaks each image, infinite where nothing does; passes (n,) and CPU seconds."""
        name, _, inside = written.partition("(")
        (spec,) = parse_specs(f"bisection(attack='{inside[:-1]}')" if name == "minimal" else written)
        attack = attack_from(spec, {})
        sizes, spent, began = [], [], time.process_time()
        for at in range(0, len(self.data), _BATCH):
            part = self.data.select(slice(at, at + _BATCH))
            budget = None if eps is None else torch.full((len(part),), eps, dtype=torch.float64)
            with passes.counted(len(part), labels=part.labels) as tally:
                keys = rng.keys(seed, part.indices, spec.name)
                x_adv = attack(self.model, part.images, part.labels, Budget(norm, budget), keys)
            size = norms.size(x_adv.double() - part.images.double(), norm)
            sizes.append(torch.where(self.predicted(x_adv) != part.labels, size, torch.inf))
            spent.append(tally.forwards + tally.backwards)
        return torch.cat(sizes), torch.cat(spent).double(), time.process_time() - began


def _subjects(counts: dict[str, int]) -> Iterable[Right]:
    for name, count in counts.items():
        try:
            yield Right(name, count)
        except UserError as fault:
            click.echo(f"strength_softened: left out: {fault}", err=True)


def ablation(subject: Right, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A line each variant of `soft` on a model, at the eps that it was trained for."""
    threat = subject.stanza.trained_for
    assert threat is not None and threat.eps is not None  # every model of the list has one
    lines = []
    for written, what in _PARTS.items():
        tries = [subject.attacked(written, threat.norm, threat.eps, seed) for seed in seeds]
        left = [size.isinf() for size, _, _ in tries]
        standing = sum(int(mask.sum()) for mask in left)
        spent = torch.cat([passed[mask] for (_, passed, _), mask in zip(tries, left, strict=True)])
        lines.append(
            {
                "model": subject.name,
                "n": subject.n,
                "right": len(subject.data),
                "attack": written,
                "what": what,
                "seeds": len(seeds),
                "standing": standing,
                "passes": round(float(spent.mean()), 1) if len(spent) else None,
                "seconds": round(sum(seconds for _, _, seconds in tries), 2),
            }
        )
        click.echo(lines[-1], err=True)
    return lines


def minimal(subject: Right) -> list[dict[str, Any]]:
    """A line each minimal attack and norm on a model."""
    lines = []
    for norm, written in _MINIMAL.items():
        tries = {name: subject.attacked(name, norm, None, 0) for name in written}
        best = torch.stack([size for size, _, _ in tries.values()]).amin(0)
        for name, (size, spent, seconds) in tries.items():
            lines.append(
                {
                    "model": subject.name,
                    "norm": norm,
                    "n": len(best),
                    "attack": name,
                    "median_size": float(size.median()),
                    "mean_to_best": float((size / best).mean()),
                    "passes": round(float(spent.mean()), 1),
                    "seconds": round(seconds / len(best), 3),
                }
            )
            click.echo(lines[-1], err=True)
    return lines


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Seeds of the ablation; one on models with dear passes.")
@click.option("--only", help="One model.")
@click.option("--out", type=OUT, default=Path("results/strength"), show_default=True)
def main(seeds: int, only: str | None, out: Path) -> None:
    """Write ablation.{csv,tex,md} and softened.{csv,tex,md}."""
    torch.set_num_threads(1)
    chosen = {name: count for name, count in _MODELS.items() if only in (None, name)}
    few = {name: count for name, count in _FEW.items() if name in chosen}
    lines = []
    for subject in _subjects(chosen):
        lines += ablation(subject, range(1 if "wrn" in subject.name else seeds))
    render.write(out, "ablation", pd.DataFrame(lines), _ABLATION)
    sizes = [line for subject in _subjects(few) for line in minimal(subject)]
    if sizes:
        render.write(out, "softened", pd.DataFrame(sizes), _SOFTENED)


if __name__ == "__main__":
    enter(main, "strength_softened")
