"""The CI gate: run what a baseline holds again, and say what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from bench.core import files
from bench.core.types import UserError
from bench.evaluation import trust
from bench.evaluation.request import Request, subject
from bench.evaluation.run import in_memory, prepare
from bench.report import baseline as regress
from bench.report import measures
from bench.store import runs as store

_GROUP = ["model", "data", "split", "n", "seed", "norm", "eps"]


@dataclass(frozen=True)
class Report:
    """What a check found: a finding a row that was run again, and a line for everything that could not run."""

    findings: list[regress.RowChange]
    faults: list[str]

    @property
    def exit_code(self) -> int:
        """1: something regressed; else 2: something could not run; else 0: the baseline holds."""
        return regress.exit_code(self.findings) or (2 if self.faults else 0)

    @property
    def text(self) -> str:
        """A line a row, failures first, and the sum."""
        ordered = sorted(self.findings, key=lambda finding: not finding.failed)
        failed = sum(finding.failed for finding in ordered)
        held = len(ordered) - failed
        lines = [("FAIL  " if finding.failed else "ok    ") + finding.text for finding in ordered]
        lines += [f"ERROR {fault}" for fault in self.faults]
        return "\n".join([*lines, f"{held} rows hold, {failed} failed, {len(self.faults)} could not run"])


def _requests(baseline: pd.DataFrame, data_dir: str | None) -> Iterator[tuple[Request, pd.DataFrame]]:
    """One run for each model, data, seed and budget of a baseline, with the rows it must repeat."""
    for _, rows in baseline.groupby(_GROUP, sort=False):
        first = rows.iloc[0]
        attacks = ",".join(attack for attack in rows["attack"] if attack != measures.WORST)
        yield (
            Request(
                first["model"],
                attacks,
                data=first["data"],
                split=first["split"],
                n=int(first["n"]),
                sample="first",
                norm=first["norm"],
                eps=[(float(first["eps"]), repr(float(first["eps"])))],
                seed=int(first["seed"]),
                device="cpu",
                data_dir=data_dir,
            ),
            rows,
        )


def check(
    path: Path,
    models: Sequence[str] = (),
    allow_rise: bool = False,
    tolerance: int | None = None,
    data_dir: str | None = None,
    trusted: bool = False,
) -> Report:
    """Run every row of a baseline again (of some models alone, if named) and compare image by image.

    Code that a baseline names is run for models that are named here, or where it is trusted.

    Raises:
        UserError: the baseline is missing, damaged, or holds none of these models.
    """
    baseline = regress.read(path)
    for model in models:
        if model not in set(baseline["model"]):
            raise UserError(f"baseline {path} holds nothing of model {model!r}: add a run with --add RUN")
    chosen = baseline[baseline["model"].isin(models)] if models else baseline
    if chosen.empty:
        raise UserError(f"baseline {path} is empty: add a run with --add RUN")
    findings: list[regress.RowChange] = []
    faults = []
    for request, rows in _requests(chosen, data_dir):
        try:
            if not trusted:
                trust.model_named(request.model, request.model if request.model in models else None, False, str(path))
                trust.refuse_code(request.attacks, str(path))
            with prepare(request, subject(request)) as prepared:
                again = regress.rows(in_memory(prepared))
        except UserError as fault:
            faults.append(f"{request.model}: {fault}")
            continue
        findings += regress.compare(rows, again, allow_rise, tolerance)
        lacking = regress.missing(rows, again)["attack"].tolist()
        faults += [f"{request.model}: {attack} gave no such row" for attack in lacking]
    return Report(findings, faults)


def add(path: Path, runs: Sequence[Path]) -> str:
    """Store runs in a baseline, each in place of what it held of that model, data, seed and budget.

    Only rows with a budget are kept: a minimal attack in another norm than the run's has no accuracy to hold.

    Raises:
        UserError: a run or the baseline cannot be read or written.
    """
    kept = regress.read(path) if path.exists() else pd.DataFrame(columns=list(regress.COLUMNS))
    for run in runs:
        made = store.load(run, finished=True)
        record = made.record
        if record.eot > 1 or record.draws > 1 or record.backward or record.max_passes:
            options = "--eot, --draws, --backward or --max-passes"
            raise UserError(f"{run} was made with {options}: a baseline holds plain runs alone")
        rows = regress.rows(made).dropna(subset="eps")
        if rows.empty:
            raise UserError(f"{run}: no row has a budget: run with --eps")
        # A worst row stands for the attacks of its own run: rows of two lists must not mix.
        budget = [name for name in regress.KEY if name != "attack"]
        old = kept[budget].apply(tuple, axis=1).isin(set(rows[budget].itertuples(index=False, name=None)))
        kept = pd.concat([kept[~old.astype(bool)], rows]) if len(kept) else rows
    regress.write(path, kept.reset_index(drop=True))
    return f"{path} holds {len(kept)} rows of {kept['model'].nunique()} models"


def write_junit(report: Report, path: Path) -> None:
    """Write the findings and faults as JUnit XML.

    Raises:
        UserError: the place cannot be written.
    """
    suite = ElementTree.fromstring(regress.junit(report.findings))
    for fault in report.faults:
        case = ElementTree.SubElement(suite, "testcase", classname=fault.partition(":")[0], name="could not run")
        ElementTree.SubElement(case, "error", message=fault)
    suite.set("tests", str(len(report.findings) + len(report.faults)))
    suite.set("errors", str(len(report.faults)))
    ElementTree.indent(suite)
    files.write_atomically(path, ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
