"""How eps for digits was chosen: natural training against adversarial training, each eps, on held-out training images.

    python experiments/choose_eps.py --out results/digits_eps.csv

A good eps breaks the natural model and leaves the adversarially trained one most of its accuracy. No test image is
used. Takes about two minutes an eps on one core.
"""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import click
import torch

from defenses.training import loop, setup, state
from defenses.training.recipe import Recipe, load

GRID = ("0.1", "0.15", "0.2", "0.25", "0.3")


def robust(recipe: Recipe, trained: Path, eps: str) -> tuple[float, float]:
    """Held-out clean and PGD-40 accuracy at eps of a training that is finished; its directory is reused."""
    measured = load(f"{recipe.name}", (*recipe.settings, f"evaluation.eps={eps}", "evaluation.steps=40"))
    data, held_out = setup.images(measured.data, torch.device("cpu"))
    trainee = setup.trainee_of(recipe, data)
    state.restore(trained / "state.pt", recipe, trainee)
    row = loop.evaluation(measured, trainee.model, data, held_out)
    return float(row["held_out_accuracy"] or 0), float(row["held_out_pgd_accuracy"] or 0)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/digits_eps.csv"), show_default=True)
def main(out: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["eps", "natural_clean", "natural_pgd40", "madry_clean", "madry_pgd40"])
    with tempfile.TemporaryDirectory() as scratch:
        natural = load("natural_digits")
        loop.train(natural, Path(scratch, "natural"))
        for eps in GRID:
            adversarial = load("madry_digits", (f"defense.eps={eps}", f"defense.step_size={float(eps) / 4:g}"))
            loop.train(adversarial, Path(scratch, eps))
            cells = (*robust(natural, Path(scratch, "natural"), eps), *robust(adversarial, Path(scratch, eps), eps))
            table.writerow([eps, *(f"{cell:.4f}" for cell in cells)])
            click.echo(text.getvalue().splitlines()[-1])
    state.write_atomically(out, text.getvalue().encode())


if __name__ == "__main__":
    main()
