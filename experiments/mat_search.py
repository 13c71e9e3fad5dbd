"""What the settings that MAT does not print do, on MNIST: alpha, beta and D by short trainings, C by rescaling them.

    python experiments/mat_search.py --out results/mat_search.csv

C is not in the training loss, which is made of cosines; it scales the logits alone, so each net is attacked at several.
Training meets 20,000 images; everything is measured on held-out ones, no test image is used. About a minute a net
without BIBO on one core, five with it; a training that was interrupted goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from bench import api
from bench.core.files import write_atomically
from bench.ops import passes
from defenses.training import loop, setup, state
from defenses.training.recipe import load

RECIPE, EPOCHS, TRAINED_ON = "mat_mnist_cnn", 3, 20000
# alpha, beta, D: one at a time from the recipe's 1, 0 and 256.
GRID = (
    (0.0, 0.0, 256),
    (0.1, 0.0, 256),
    (1.0, 0.0, 256),
    (10.0, 0.0, 256),
    (1.0, 0.0, 10),
    (1.0, 1.0, 256),
    (1.0, 6.0, 256),
)
SCALES = (1.0, 10.0, 100.0)
IMAGES = 500


def trained(alpha: float, beta: float, dim: int, directory: Path) -> tuple[Any, Any]:
    """A net after a few epochs, and the held-out images."""
    settings = (f"defense.alpha={alpha}", f"defense.beta={beta}", f"model.args.dim={dim}", "model.args.scale=1.0")
    recipe = load(RECIPE, (*settings, f"train.epochs={EPOCHS}", f"data.limit={TRAINED_ON}"))
    place = directory / f"alpha{alpha:g}-beta{beta:g}-dim{dim}"
    loop.train(recipe, place, resume=place.exists())
    data, held_out = setup.images(recipe.data, torch.device("cpu"))
    trainee = setup.trainee_of(recipe, data)
    state.restore(place / "state.pt", recipe, trainee)
    return trainee.model.eval(), held_out


def measured(model: Any, held_out: Any) -> dict[str, float]:
    """What plain and adaptive PGD leave of the held-out images, and why."""
    x, y = held_out.images[:IMAGES], held_out.labels[:IMAGES]
    run = api.evaluate(model, x, y, attacks="pgd,margin,mat(beta=0)", norm="linf", eps="0.3")
    left = run.table().set_index("attack")
    return {
        "n": len(x),
        "clean": left["clean_accuracy"].iloc[0],
        "pgd": left.loc["pgd", "robust_accuracy"],
        "margin": left.loc["margin", "robust_accuracy"],
        "worst": left.loc["worst", "robust_accuracy"],
        "zero_gradients": run.record.zero_gradients,
        "feature_norm": float(passes.reference_outputs(model.features, x).norm(dim=1).median()),
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/mat_search.csv"), show_default=True)
@click.option("--trained", "place", type=click.Path(path_type=Path), default=Path("runs/mat_search"), show_default=True)
def main(out: Path, place: Path) -> None:
    rows = []
    for alpha, beta, dim in GRID:
        model, held_out = trained(alpha, beta, dim, place)
        centers = model.head.centers.clone()
        for scale in SCALES:
            model.head.centers.copy_(centers * scale)
            rows.append({"alpha": alpha, "beta": beta, "D": dim, "C": scale, **measured(model, held_out)})
            click.echo(rows[-1])
        write_atomically(out, pd.DataFrame(rows).round(4).to_csv(index=False, lineterminator="\n").encode())


if __name__ == "__main__":
    main()
