"""Robust accuracy over passes from rows whose numbers are known."""

from __future__ import annotations

import pytest

from bench.core.types import UserError, Verdict
from bench.store import runs as store
from benchmarks import strength_passes
from tests.support.stored_runs import entry, record


def _run(passes: list[int], eps: float | None = 0.2, size: float = 0.2, **known: object) -> store.Run:
    """Images broken after so many passes each, one that stands after 50, and one that is wrong when clean."""
    minimal = eps is None
    rows = [Verdict(i, 0, 0, "pgd", "linf", eps, 1, size, True, True, p, 0) for i, p in enumerate(passes)]
    rows.append(Verdict(len(passes), 0, 0, "pgd", "linf", eps, 0, 0.0, True, False, 30, 20))
    rows.append(Verdict(len(passes) + 1, 0, 1, "pgd", "linf", eps, 1, 0.0, True, False, 0, 0))
    about = {"attacks": (entry("pgd", minimal=minimal),), "indices": tuple(range(len(rows))), "eps": 0.2}
    return store.Run(store.frame(rows), record(**about | known))


def test_images_fall_at_the_passes_of_their_rows() -> None:
    table = strength_passes.curves([_run([3, 8, 8])], 0.2)
    assert table["passes"].tolist() == [0, 3, 8, 50]
    assert table["robust"].tolist() == [4, 3, 1, 1]
    assert table["robust_accuracy"].tolist() == [0.8, 0.6, 0.2, 0.2]


def test_a_minimal_attack_counts_within_eps() -> None:
    assert strength_passes.curves([_run([3, 8], eps=None)], 0.2)["robust"].tolist() == [3, 2, 1, 1]
    assert strength_passes.curves([_run([3, 8], eps=None)], 0.1)["robust"].tolist() == [3, 3]


def test_an_attack_of_two_runs_has_two_curves() -> None:
    table = strength_passes.curves([_run([3, 8]), _run([4, 4])], 0.2)
    assert len(table) == 4 + 3


def test_what_has_no_curve_is_told() -> None:
    with pytest.raises(UserError, match=r"no attack of the runs met linf 0\.3"):
        strength_passes.curves([_run([3])], 0.3)
    with pytest.raises(UserError, match="share passes"):
        strength_passes.curves([_run([3], eps_order="exact")], 0.2)
    with pytest.raises(UserError, match="another norm"):
        strength_passes.curves([_run([3]), _run([3], norm="l2")], 0.2)


def test_a_picture_is_drawn(tmp_path) -> None:
    strength_passes.draw(strength_passes.curves([_run([3, 8])], 0.2), tmp_path / "a.png", "0.2")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
