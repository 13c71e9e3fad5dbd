"""What a cheaper form of the model saves a search: forward pass and input gradient, form beside form, on one thread.

    python -m benchmarks.throughput                     # writes results/throughput.csv; about 5 minutes on one core
    python -m benchmarks.throughput --no-compile --rounds 5

Forms are taken in turn, round after round; "times as fast" is the median over the rounds of plain time by the form's
time in the same round. Time is the process's own, so that a busy machine changes little. "logits" is the largest
difference from the plain model's logits, as a share of their spread; "gradient" the smallest cosine to its input
gradient. Needs $BENCH_DATA and $BENCH_MODELS; the wide ResNet has random weights.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn

from bench.core import files
from bench.core.registry import architectures
from bench.data import loading
from bench.models import checkpoints, search_copy, stanzas
from bench.ops import losses, passes

MODELS = {
    "cifar_cnn_a_adv": 256,
    "trades_mnist_smallcnn": 256,
    "natural_resnet18_cifar10": 16,
    "wide_resnet(28,2), untrained": 16,
}
"""Models, and how many images go through at once."""

_COLUMNS = ("model", "images", "form", "ms an image", "times as fast", "logits", "gradient")


def _model(name: str, count: int) -> tuple[nn.Module, Tensor]:
    if name in stanzas.registry():
        loaded = checkpoints.load(name)
        model, data = loaded.model, loaded.checkpoint.data
    else:
        torch.manual_seed(0)
        model, data = architectures["wide_resnet"](28, 2), "cifar10"
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2)
    return model.eval().requires_grad_(False), loading.load(data, "test").images[:count]


def forms(model: nn.Module, x: Tensor, compiled: bool) -> dict[str, Any]:
    """The model in every form, by name."""
    folded = search_copy.folded(model, x)
    both = search_copy.channels_last(folded)
    named = {
        "plain": model,
        "folded": folded,
        "channels_last": search_copy.channels_last(model),
        "folded, channels_last": both,
        "bf16": search_copy.rounded(model),
        "bf16, folded": search_copy.rounded(folded),
        "bf16, folded, channels_last": search_copy.rounded(both),
    }
    return named | ({"torch.compile": torch.compile(model, dynamic=False)} if compiled else {})


def _pass(form: Any, x: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor]:
    began = time.process_time()
    _, logits, gradient = passes.input_gradient(losses.logit_margin, form, x, y)
    return time.process_time() - began, logits, gradient


def measured(name: str, count: int, rounds: int, compiled: bool) -> list[tuple[Any, ...]]:
    """A row a form."""
    model, x = _model(name, count)
    y = model(x).argmax(1)
    kinds = forms(model, x, compiled)
    _, logits, gradient = _pass(model, x, y)
    far: dict[str, tuple[float, float]] = {}
    for form, kind in kinds.items():  # the first pass also compiles and warms up
        _, theirs, slope = _pass(kind, x, y)
        share = (theirs - logits).abs().max() / (logits.max() - logits.min())
        far[form] = float(share), float(torch.cosine_similarity(gradient.flatten(1), slope.flatten(1)).min())
    times: dict[str, list[float]] = {form: [] for form in kinds}
    for _ in range(rounds):
        for form, kind in kinds.items():
            times[form].append(_pass(kind, x, y)[0])
    rows = []
    for form, seconds in times.items():
        quotient = median(plain / own for plain, own in zip(times["plain"], seconds, strict=True))
        apart, along = far[form]
        rows.append(
            (
                name,
                count,
                form,
                f"{median(seconds) / count * 1e3:.3f}",
                f"{quotient:.2f}",
                f"{apart:.1e}",
                f"{along:.4f}",
            )
        )
    return rows


def _table(write: Callable[[str], None], rows: list[tuple[Any, ...]]) -> None:
    for row in rows:
        write("  ".join(str(cell).ljust(width) for cell, width in zip(row, (30, 6, 28, 12, 14, 9, 8), strict=True)))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/throughput.csv"), show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option(
    "--compile/--no-compile", "compiled", default=True, help="Also torch.compile, where there is a C++ compiler."
)
def main(out: Path, rounds: int, compiled: bool) -> None:
    torch.set_num_threads(1)
    if compiled and not shutil.which("g++"):
        click.echo("torch.compile: not available, there is no C++ compiler here")
        compiled = False
    _table(click.echo, [_COLUMNS])
    made: list[tuple[Any, ...]] = []
    for name, count in MODELS.items():
        rows = measured(name, count, rounds, compiled)
        _table(click.echo, rows)
        made += rows
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *made])
        files.write_atomically(out, text.getvalue())


if __name__ == "__main__":
    main()
