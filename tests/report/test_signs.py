"""The command that an audit names next is for the run's own model, images, budget and seed."""

from __future__ import annotations

from dataclasses import replace

from bench.report.signs import Step
from tests.support import stored_runs


def test_a_command_repeats_what_the_run_was_asked() -> None:
    record = replace(
        stored_runs.record(), model="m.py:f", data="digits", split="train", norm="linf", seed=7, forced=("batch",)
    )
    record = replace(record, eps=0.031, eps_written="8/258", eps_grid=None)
    said = Step("pgd,margin", eot=20, backward="identity").command(record)
    count = len(record.indices)
    assert said == (
        f"bench run --model m.py:f --data digits -n {count} --norm linf --eps 8/258 --split train --seed 7 "
        "--attacks pgd,margin --eot 20 --backward identity --force"
    )


def test_after_a_sweep_it_is_for_the_largest_eps() -> None:
    record = replace(
        stored_runs.record(), eps=None, eps_written=None, eps_grid=((0.1, "0.1"), (0.2, "1/5")), seed=0, forced=()
    )
    assert "--eps 1/5 " in Step("square").command(record)


def test_without_a_budget_it_names_none() -> None:
    assert "--eps" not in Step("minimal").command(
        replace(stored_runs.record(), eps=None, eps_written=None, eps_grid=None)
    )
