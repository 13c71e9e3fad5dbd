"""The command line: parses, calls, prints. Results on stdout; progress and faults on stderr."""

from __future__ import annotations

import os
import sys
import traceback

import click

from bench.cli import catalogue, check, papers, review, run, studies
from bench.core.types import UserError
from bench.store.provenance import DISTRIBUTION

# Before torch is imported: threads that spin while they wait bring a busy machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_INTERRUPTED = 130
_FAULT = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name=DISTRIBUTION, prog_name="bench")
def main() -> None:
    """Measure the robustness of image classifiers: attack, re-judge, tabulate."""


_COMMANDS = (
    run.run,
    run.sweep_eps,
    studies.probe,
    studies.detect,
    check.check,
    review.compare,
    review.verify,
    review.audit,
    papers.table,
    papers.figure,
    papers.page,
    papers.publish_,
    catalogue.list_,
    catalogue.data,
)
for _command in _COMMANDS:
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
