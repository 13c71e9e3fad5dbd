"""The command line: parses, calls, prints. Results on stdout; progress and faults on stderr."""

from __future__ import annotations

import os

import click

from bench.cli import catalogue, certify, check, papers, review, run, studies
from bench.core.entry import enter
from bench.core.extras import DISTRIBUTION

# Before torch is imported: threads that spin while they wait bring a busy machine to a crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
    certify.certify,
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
    enter(main, "bench")
