"""Options and arguments that several commands share, and requests made of them."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from bench.core.arguments import COUNT, DRAWS, IMAGES, OUT, SEED
from bench.core.samples import Sample
from bench.core.types import UserError

_AUTO = "auto"


def typed() -> str:
    """The command as it was typed, as `run.json` records it."""
    return shlex.join(["bench", *sys.argv[1:]])


def trust_option(command: Any) -> Any:
    """The option of commands that read a model's name from a stored file."""
    help_ = "Run the model's code where the stored file names a factory: only for files you trust."
    return click.option("--trust", "trusted", is_flag=True, help=help_)(command)


images_option = click.option(
    "-n",
    type=IMAGES,
    help="Images to use: the first N in official order, or a stratified sample where the set is ordered by class.",
)


def chosen(sample: Sample | None) -> dict[str, Any]:
    """The fields of a request that say which images."""
    return {} if sample is None else {"n": sample.count, "sample": sample.choice}


def subject_options(command: Any) -> Any:
    """The options that `run` and `sweep-eps` share."""
    options = [
        click.option(
            "--model", required=True, help="Name in checkpoints.toml, file.py:factory or package.module:factory."
        ),
        click.option("--data", help="Data set; by default the one of the model's stanza (bench list data)."),
        click.option("--split", default="test", show_default=True),
        images_option,
        click.option("--norm", type=click.Choice(["linf", "l2", "l1"]), help="Norm of the threat model."),
        click.option("--seed", type=SEED, default=0, show_default=True),
        click.option(
            "--batch-size", default=_AUTO, show_default=True, callback=_batch_size, help="Images at once, or auto."
        ),
        click.option("--device", default="auto", show_default=True),
        click.option(
            "--search-dtype",
            type=click.Choice(["float32", "tf32", "bf16"]),
            default="float32",
            show_default=True,
            help="What budgeted attacks compute in; the judge always computes in float32.",
        ),
        click.option("--eot", type=DRAWS, default=1, show_default=True, help="Random models: draws averaged."),
        click.option(
            "--draws",
            type=DRAWS,
            help="Random models: passes that settle a prediction; by default 10.",
        ),
        click.option("--backward", help="Gradients of a stand-in: identity, file.py:NAME or a model's name."),
        click.option(
            "--max-passes", type=COUNT, help="Forward and backward passes an image may cost an attack at an eps."
        ),
        click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache."),
        click.option("--out", type=OUT, help="Folder of the run; by default one under runs/."),
        click.option("--resume", is_flag=True, help="Continue the run in --out."),
        click.option("--force", is_flag=True, help="Attack a model that fails the checks; the run records it."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _batch_size(context: click.Context, option: click.Parameter, written: str) -> int | None:
    if written == _AUTO:
        return None
    try:
        return COUNT.convert(written, option, context)
    except UserError as fault:
        raise UserError(f"{fault}, or {_AUTO}") from None


def made_request(options: dict[str, Any], attacks: str, eps: Any) -> Any:
    """The request that options stand for."""
    from bench.evaluation.request import Request

    names = ["model", "data", "split", "norm", "seed", "batch_size", "device", "search_dtype", "force", "data_dir"]
    searched = ["eot", "draws", "backward", "max_passes"]
    return Request(
        **{name: options[name] for name in (*names, *searched)},
        **chosen(options["n"]),
        attacks=attacks,
        eps=eps,
        save_adversarial=options.get("save_adversarial", False),
        command=typed(),
    )
