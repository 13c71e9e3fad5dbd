"""What became of claims, for readers: as a table and in short."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.papers.claims import NOT_RUN, ClaimResult


def table(results: Sequence[ClaimResult], same: str) -> pd.DataFrame:
    """Results as a table for reading, those that were run first; `same` heads the column of the paper's attack."""
    rows = [
        (result.data, result.claim, result.published, result.same, result.worst, f"**{result.verdict}**", result.models)
        for result in sorted(results, key=lambda result: result.verdict == NOT_RUN)
    ]
    shown = pd.DataFrame(rows, columns=["data", "claim", "published", same, "worst", "verdict", "of"])
    return shown if shown["of"].any() else shown.drop(columns="of")


def in_short(results: Sequence[ClaimResult]) -> str:
    """The claims that were tried by their verdicts, a line a data set; empty if none was."""
    tried = [result for result in results if result.verdict != NOT_RUN]
    lines = []
    for data in dict.fromkeys(result.data for result in tried):
        by_verdict: dict[str, list[str]] = {}
        for result in tried:
            if result.data == data:
                verdict = result.verdict
                short = verdict if verdict.endswith("reversed") else verdict.partition(",")[0]
                by_verdict.setdefault(short, []).append(result.claim)
        told = [f"**{verdict}:** {'; '.join(by_verdict[verdict])}." for verdict in sorted(by_verdict)]
        lines.append(f"- {data}: {' '.join(told)}\n")
    return "".join(lines)
