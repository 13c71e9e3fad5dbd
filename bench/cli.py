"""The command line: parses, calls, prints. Results on stdout; progress and faults on stderr.

The commands that read stored runs are in `bench.commands`.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bench import commands
from bench.types import UserError

# Before torch is imported: threads that spin while they wait bring a busy machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_INTERRUPTED = 130
_FAULT = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="bench")
def main() -> None:
    """Measure the robustness of image classifiers: attack, re-judge, tabulate."""


for _command in commands.ALL:
    main.add_command(_command)


def entry() -> None:
    """Run the command line; every fault is one line on stderr and exit 2."""
    try:
        code = main.main(standalone_mode=False)
    except UserError as fault:
        _fail(str(fault))
    except click.exceptions.NoArgsIsHelpError as fault:
        click.echo(fault.ctx.get_help(), err=True)
        sys.exit(_FAULT)
    except click.ClickException as fault:
        _fail(" ".join(fault.format_message().split()))
    except (click.Abort, KeyboardInterrupt):
        click.echo("bench: interrupted: what was written stays, and --resume continues it", err=True)
        sys.exit(_INTERRUPTED)
    except Exception as fault:
        traceback.print_exc()
        _fail(f"internal error, please report it: {type(fault).__name__}: {fault}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str) -> None:
    click.echo(f"bench: {text}", err=True)
    sys.exit(_FAULT)


def _typed() -> str:
    return shlex.join(["bench", *sys.argv[1:]])


def _subject_options(command: Any) -> Any:
    """The options that `run` and `sweep-eps` share."""
    options = [
        click.option(
            "--model", required=True, help="Name in checkpoints.toml, file.py:factory or package.module:factory."
        ),
        click.option("--data", help="Data set; by default the one of the model's stanza (bench list data)."),
        click.option("--split", default="test", show_default=True),
        click.option("-n", type=int, help="Use the first N images in official order."),
        click.option("--norm", type=click.Choice(["linf", "l2", "l1"]), help="Norm of the threat model."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--batch-size", default="auto", show_default=True, help="Images at once, or auto."),
        click.option("--device", default="auto", show_default=True),
        click.option(
            "--search-dtype",
            type=click.Choice(["float32", "tf32", "bf16"]),
            default="float32",
            show_default=True,
            help="What budgeted attacks compute in; the judge always computes in float32.",
        ),
        click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache."),
        click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; by default one under runs/."),
        click.option("--resume", is_flag=True, help="Continue the run in --out."),
        click.option("--force", is_flag=True, help="Attack a model that fails the checks; the run records it."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _batch_size(written: str) -> int | None:
    if written == "auto":
        return None
    if not (written.isascii() and written.isdigit()) or int(written) < 1:
        raise UserError(f"--batch-size {written!r} is not a count: give a whole number of images, or auto")
    return int(written)


def _request(options: dict[str, Any], attacks: str, eps: Any) -> Any:
    from bench.request import Request

    names = ("model", "data", "split", "n", "norm", "seed", "device", "search_dtype", "force", "data_dir")
    return Request(
        **{name: options[name] for name in names},
        attacks=attacks,
        eps=eps,
        batch_size=_batch_size(options["batch_size"]),
        save_adversarial=options.get("save_adversarial", False),
        command=_typed(),
    )


@main.command()
@_subject_options
@click.option("--attacks", required=True, help='Attack list, as in "pgd(steps=100),cw,adaptive" (bench list attacks).')
@click.option("--eps", help="Budget, as in 8/255 or 0.3; by default what the model was trained for.")
@click.option("--save-adversarial", is_flag=True, help="Keep the adversarial examples, for bench verify.")
def run(**options: Any) -> None:
    """Attack a model and write verdicts.csv, table.csv, table.tex, run.json and curve.png."""
    from bench import session
    from bench.specs import parse_eps

    eps = None if options["eps"] is None else [(parse_eps(options["eps"]), options["eps"])]
    request = _request(options, options["attacks"], eps)
    click.echo(session.run(request, options["out"], options["resume"]))


@main.command("sweep-eps")
@_subject_options
@click.option("--attack", required=True, help="One attack; adaptive stands for all that fit.")
@click.option("--eps", help="Grid: 0:16/255:17 or 0,2/255,4/255; by default 0 to twice the trained eps in 17 steps.")
@click.option("--bisect", is_flag=True, help="Bisect the grid image by image: assumes that success is monotone in eps.")
@click.option("--independent", is_flag=True, help="Run every eps for every image, as separate runs would.")
def sweep_eps(**options: Any) -> None:
    """Robust accuracy over eps: curve.csv, curve.tex and curve.png."""
    from dataclasses import replace

    from bench import session
    from bench.specs import parse_eps_grid

    eps = None if options["eps"] is None else parse_eps_grid(options["eps"])
    if options["bisect"] and options["independent"]:
        raise UserError("--bisect and --independent exclude each other: give one of them, or none")
    order = "bisect" if options["bisect"] else "independent" if options["independent"] else "exact"
    request = replace(_request(options, options["attack"], eps), order=order)
    click.echo(session.sweep(request, options["out"], options["resume"]))


@main.command()
@click.option("--baseline", type=click.Path(path_type=Path), default=Path("results/baseline.csv"), show_default=True)
@click.option("--model", "models", multiple=True, help="Check these models alone.")
@click.option("--allow-rise", is_flag=True, help="Accept a model that got stronger.")
@click.option("--tolerance", type=click.IntRange(0), help="Net change accepted, in images; by default 1 % of them.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write the findings as JUnit XML as well.")
@click.option("--data-dir", help="Where to look for data before $BENCH_DATA and the user cache.")
@click.option("--add", "added", multiple=True, type=click.Path(path_type=Path), help="Store this run in the baseline.")
def check(**options: Any) -> int:
    """Run what the baseline holds again. Exit 0: it holds; 1: it regressed; 2: it could not run."""
    from bench import gate

    if options["added"]:
        click.echo(gate.add(options["baseline"], options["added"]))
        return 0
    report = gate.check(
        options["baseline"], options["models"], options["allow_rise"], options["tolerance"], options["data_dir"]
    )
    click.echo(report.text)
    if options["junit"]:
        gate.write_junit(report, options["junit"])
    return report.exit_code


@main.command("list")
@click.argument(
    "kind",
    type=click.Choice(["models", "attacks", "data", "probes", "detectors", "tables", "figures", "pages", "defenses"]),
)
@click.option("--peers", is_flag=True, help="The attacks of other libraries, with what is known against them.")
def list_(kind: str, peers: bool) -> None:
    """What there is: models, attacks, data, probes, detectors, tables, figures, pages or defenses."""
    from bench import session

    click.echo(session.catalogue(kind, peers))


@main.group()
def data() -> None:
    """Data sets."""


@data.command()
@click.argument("name")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where to put it; by default $BENCH_DATA, else the user cache."
)
def fetch(name: str, data_dir: Path | None) -> None:
    """Download a data set from its official address and check it."""
    from bench import session

    click.echo(session.fetch(name, data_dir))


if __name__ == "__main__":
    entry()
