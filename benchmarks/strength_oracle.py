"""Minimal-norm attacks of ours and of the peers against optima that are known: `results/strength/oracle.csv`.

    python -m benchmarks.strength_oracle

Three problems of 20 pixels, from `tests/oracles.py`: a linear model whose nearest boundary lies inside the box, in
closed form; a ReLU net of 32 units with its exact optimum (`benchmarks.strength_exact`); and the linear model on images
of exact zeros and ones, where the box decides (the same exact search, with no hidden unit to change its state).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.core.from_specs import attack_from
from bench.core.specs import Spec, parse_specs
from bench.core.types import Norm
from bench.report import render
from benchmarks.strength_cases import OURS, Case, cases
from benchmarks.strength_exact import Net, nearest_l2, nearest_linf
from tests.support import oracles

SHAPE = (1, 4, 5)
PLACE = Path("results/strength")
EXACT = {"l2": nearest_l2, "linf": nearest_linf}


@dataclass(frozen=True)
class Problem:
    """A model, images (N, C, H, W) with its labels, and the distance (N,) to the nearest adversarial image."""

    name: str
    model: Any
    x: Tensor
    y: Tensor
    optimum: Tensor


def linear(norm: Norm, count: int = 24) -> Problem:
    """Images whose nearest adversarial image lies inside the box and is clearly the nearest."""
    model = oracles.Linear(10, SHAPE, sharpness=20)
    x = oracles.images(4000, SHAPE, 0.3, 0.7)
    y, far = model.distances(x, norm)
    kept = (far[:, 0] < 0.28) & (far[:, 0] > (0.05 if norm == "l2" else 0.01)) & (far[:, 1] > 1.5 * far[:, 0])
    chosen = kept.nonzero().squeeze(1)[:count]
    return Problem("linear", model, x[chosen], y[chosen], far[chosen, 0])


def exact(net: Net, x: Tensor, y: Tensor, norm: Norm, within: Tensor) -> Tensor:
    """Optimal distances (N,), each at most `within` (N,)."""
    pixels = x.flatten(1).double().numpy()
    found = [
        EXACT[norm](net, image, int(label), float(limit)) for image, label, limit in zip(pixels, y, within, strict=True)
    ]
    return torch.tensor(found, dtype=torch.float64)


def rectified(norm: Norm, count: int = 16) -> Problem:
    """A ReLU net; its bound `within` comes from a plain attack of ours."""
    model = oracles.Rectified(10, SHAPE)
    x = oracles.images(count, SHAPE, 0.1, 0.9)
    y = model(x).argmax(1).detach()
    first, second = (weight.detach().double().numpy() for weight in (model.first, model.second))
    within = _bound(model, x, y, norm)
    return Problem("relu", model, x, y, exact(Net(first, -0.5 * first.sum(1), second), x, y, norm, within))


def binarised(norm: Norm, count: int = 24) -> Problem:
    """The linear model on images of zeros and ones: written as a net, its units are the logits and their negatives."""
    model = oracles.Linear(10, SHAPE)
    x = oracles.images(count, SHAPE, 0, 1).round()
    y, _ = model.distances(x, norm)
    weight, bias = model.weight.detach().double().numpy(), model.bias.detach().double().numpy()
    # relu(z + 1000) is z + 1000 on [0, 1] images: no unit ever changes its state.
    net = Net(weight, bias + 1000, np.eye(len(weight)))
    return Problem("binary", model, x, y, exact(net, x, y, norm, _bound(model, x, y, norm)))


def _bound(model: Any, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    written = "pdgd(refine=12)" if norm == "l2" else "fmn(steps=400,refine=12)"
    return _sizes(written, model, x, y, norm)


def _sizes(written: str, model: Any, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    (spec,) = parse_specs(written)
    attack = replace(attack_from(Spec(spec.name, ()), {}), **dict(spec.fields))  # type: ignore[type-var]
    size: Tensor = oracles.attack(attack, model, x, y, norm).size
    return size


def measured(problem: Problem, case: Case) -> dict[str, Any]:
    """The ratios of what an attack finds to the optimum."""
    ratio = (_sizes(case.spec, problem.model, problem.x, problem.y, case.norm) / problem.optimum).numpy()
    return {
        "problem": problem.name,
        "norm": case.norm,
        "attack": case.spec,
        "n": len(ratio),
        "success_rate": float(np.isfinite(ratio).mean()),
        "median ratio": float(np.median(ratio)),
        "largest ratio": float(ratio.max()),
        "sizes": ratio,
    }


def _best(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    ratio = np.stack([row["sizes"] for row in rows]).min(0)
    found = {"success_rate": float(np.isfinite(ratio).mean()), "largest ratio": float(ratio.max())}
    return rows[0] | found | {"attack": name, "median ratio": float(np.median(ratio))}


# The searches' defaults, beside the 1,000 steps of the table of strength.
_MORE = (
    Case("cw", "l2", "cw"),
    Case("cw", "l2", "cw(lr=0.003)"),
    Case("cw", "l2", "cw(refine=10)"),
    Case("ddn", "l2", "ddn"),
    Case("ddn", "l2", "ddn(refine=10)"),
    Case("deepfool", "l2", "deepfool(refine=10)"),
    Case("deepfool", "linf", "deepfool(refine=10)"),
    Case("fmn", "l2", "fmn"),
    Case("fmn", "linf", "fmn"),
    Case("fab", "l2", "fab"),
    Case("fab", "linf", "fab"),
)


@click.command()
def main() -> None:
    lines: list[dict[str, Any]] = []
    norms: tuple[Norm, Norm] = ("l2", "linf")
    for norm in norms:
        for problem in (linear(norm), rectified(norm), binarised(norm)):
            rows = []
            for case in (*cases(), *_MORE):
                if case.norm == norm:
                    rows.append(measured(problem, case))
                    click.echo({name: cell for name, cell in rows[-1].items() if name != "sizes"})
            for_ours = [row for row in rows if ":" not in row["attack"]]
            for_peers = [row for row in rows if ":" in row["attack"]]
            lines += [*rows, _best(for_ours, f"best of {OURS}"), _best(for_peers, "best of peers")]
    table = pd.DataFrame(lines).drop(columns="sizes").replace(math.inf, np.inf)
    render.write(PLACE, "oracle", table, "Sizes found over the optimum, on problems whose optimum is known.")


if __name__ == "__main__":
    main()
