"""What an audit makes of an ensemble's stages: each is given what those before it left, and answers for no more."""

from __future__ import annotations

import pytest

from bench.report import audit
from bench.report.evidence import Case
from bench.store import runs
from tests.support.checkout import ROOT

RUNS = ROOT / "results" / "runs"


def test_a_stage_is_given_what_the_stages_before_it_left() -> None:
    run = runs.load(RUNS / "cifar_cnn_a_adv-strong")
    case = Case.of(run)
    given = {tried.name: int(tried.given.sum()) for tried in case.tried}
    broken = {tried.name: int(tried.broken.sum()) for tried in case.tried}
    assert given["soft"] == len(run.record.indices)
    assert given["pma"] == given["soft"] - broken["soft"]
    assert given["square"] == given["soft"] - sum(broken[name] for name in ("soft", "pma", "apgd_ce", "apgd_t"))


@pytest.mark.parametrize("model", ["cifar_cnn_a_adv", "madry_digits", "madry_mnist_cnn", "madry_wrn"])
def test_cross_entropy_is_not_blamed_for_what_earlier_stages_took(model: str) -> None:
    """`apgd_ce` is the third stage of `strong`, and breaks little of what two stages left."""
    assert "cross-entropy alone" not in {sign.name for sign in audit.signs(runs.load(RUNS / f"{model}-strong"))}


def test_cross_entropy_is_blamed_where_it_came_first() -> None:
    """AutoAttack begins with it: on a net that MAT trained the other losses break many images more."""
    assert "cross-entropy alone" in {sign.name for sign in audit.signs(runs.load(RUNS / "mat_mnist_cnn_so-slow"))}
