"""Attacks scored against the best of all: the definition by hand, what the best is of, what cannot be scored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from bench.core.types import UserError, Verdict
from bench.report import optimality
from bench.store import alike
from bench.store import runs as store
from tests.support.stored_runs import entry, kept, record

INF = float("inf")


def _rows(attack: str, sizes: list[float], eps: float | None, first: int = 0, norm: str = "linf") -> list[Verdict]:
    """An image a size, broken where that is finite and within eps; the image after the last is wrong when clean."""
    hits = [size < INF and (eps is None or size <= eps) for size in sizes]
    rows = [
        Verdict(first + i, 0, 0, attack, norm, eps, int(hit), size if hit else 0.0, True, hit, 3, 2)
        for i, (size, hit) in enumerate(zip(sizes, hits, strict=True))
    ]
    return [*rows, Verdict(first + len(sizes), 0, 1, attack, norm, eps, 1, 0.0, True, False, 0, 0)]


def _run(attacks: Mapping[str, list[float]], grid: list[float | None], first: int = 0, **known: object) -> store.Run:
    """A run of attacks by the size at which they break each image; a minimal one is named `min...`."""
    rows, entries = list[Verdict](), []
    for name, sizes in attacks.items():
        minimal = name.startswith("min")
        entries.append(entry(name, minimal=minimal))
        for eps in [None] if minimal else grid:
            rows += _rows(name, sizes, eps, first)
    count = len(next(iter(attacks.values()))) + 1
    one = len(grid) == 1
    about = {
        "attacks": tuple(entries),
        "indices": tuple(range(first, first + count)),
        "eps": grid[0] if one else None,
        "eps_grid": None if one else tuple((eps, repr(eps)) for eps in grid),
        "weights_sha256": "a" * 64,
        "attack_seconds": dict.fromkeys(attacks, 1.5),
    }
    return store.Run(store.frame(rows), record(**about | known))


def _scores(runs: list[store.Run], stored: list[store.Run] | None = None) -> tuple[pd.DataFrame, list[str]]:
    table, notes = optimality.scores(runs, stored or [])
    return table.set_index(["attack", "sizes"]), notes


def test_at_one_eps_it_is_the_share_of_what_the_best_breaks() -> None:
    run = _run({"pgd": [0.1, 0.2, INF, INF], "fgsm": [INF, 0.2, INF, 0.1], "noise": [INF] * 4}, [0.2])
    table, notes = _scores([run])
    assert table["optimality"].tolist() == [2 / 3, 2 / 3, 0]
    assert table.loc[("pgd", "0.2"), ["n", "broken", "best_broken", "alone", "missed"]].tolist() == [4, 2, 3, 1, 1]
    assert table["passes"].tolist() == [5, 5, 5]
    assert table["seconds"].tolist() == [1.5] * 3
    assert notes == ["linf 0.2: 4 images; the best of 3 attacks in 1 runs, breaks 3: pgd in m (2), fgsm in m (1)"]


def test_the_best_is_of_all_stored_runs_of_the_model() -> None:
    run, stored = _run({"pgd": [0.2, INF, INF]}, [0.2]), _run({"square": [0.2, 0.2, INF]}, [0.2])
    assert _scores([run])[0]["optimality"].tolist() == [1]
    table, notes = _scores([run], [stored])
    assert table["optimality"].tolist() == [0.5]
    assert table["missed"].tolist() == [1]
    assert list(table.index) == [("pgd", "0.2")], "stored attacks are not scored"
    assert "2 attacks in" in notes[0]


def test_over_several_eps_each_stands_for_the_sizes_below_it() -> None:
    grid = [0.1, 0.2, 0.4]
    run = _run({"pgd": [0.2, 0.4, INF], "strong": [0.1, 0.2, 0.4]}, grid)
    table, _ = _scores([run])
    # 0.4 minus the eps before the one at which the image breaks: 0.3 + 0.2 of 0.4 + 0.3 + 0.2.
    assert table.loc[("pgd", "0.1 to 0.4, 3 eps"), "optimality"] == pytest.approx(0.5 / 0.9)
    assert table.loc[("strong", "0.1 to 0.4, 3 eps"), "optimality"] == 1
    assert table["passes"].tolist() == [15, 15]


def test_of_a_minimal_attack_it_is_the_papers_ratio_of_areas() -> None:
    mine, best = [0.3, 0.5, INF, 0.2], [0.3, 0.1, 0.4, 0.2]
    table, _ = _scores([_run({"min_a": mine, "min_b": best}, [None])])

    def area(sizes: list[float], end: float) -> float:
        """The area under robust accuracy up to `end`, with one image more that is wrong when clean."""
        grid = np.linspace(0, end, 400_001)[:-1]
        return float(np.mean([[size > at for size in sizes].count(True) / 5 for at in grid[::100]]) * end)

    expected = (0.8 * 0.4 - area(mine, 0.4)) / (0.8 * 0.4 - area(best, 0.4))
    assert table.loc[("min_a", "0 to 0.4"), "optimality"] == pytest.approx(expected, abs=1e-3)
    assert table.loc[("min_a", "0 to 0.4"), "optimality"] == pytest.approx(0.3 / 0.6)
    assert table.loc[("min_b", "0 to 0.4"), "optimality"] == 1
    assert table.loc[("min_a", "0 to 0.4"), ["broken", "as_good", "missed"]].tolist() == [2, 2, 2]


def test_a_minimal_attack_beside_a_budget_has_both_curves() -> None:
    table, _ = _scores([_run({"pgd": [0.2, INF], "min_a": [0.1, 0.3]}, [0.2])])
    assert list(table.index) == [("pgd", "0.2"), ("min_a", "0.2"), ("min_a", "0 to 0.3")]
    assert table["optimality"].tolist() == [1, 1, 1]


def test_a_smaller_find_under_a_larger_budget_counts_for_the_best() -> None:
    run, stored = _run({"pgd": [INF]}, [0.2]), _run({"wide": [0.15]}, [0.4])
    assert _scores([run], [stored])[0]["best_broken"].tolist() == [1]


def test_images_are_those_that_every_attack_met() -> None:
    a, b = _run({"pgd": [0.2, INF, INF]}, [0.2]), _run({"mim": [0.2, 0.2, INF]}, [0.2], first=1)
    table, _ = _scores([a, b])
    assert table["n"].tolist() == [2, 2]
    assert table.loc[("pgd", "0.2"), "missed"] == 2
    far = _run({"mim": [0.2]}, [0.2], first=7)
    with pytest.raises(UserError, match="share none"):
        optimality.scores([a, far], [])


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"norm": "l2"}, "differ in norm"),
        ({"weights_sha256": "b" * 64}, "differ in weights_sha256"),
        ({"data": "cifar10"}, "data"),
    ],
)
def test_runs_of_different_kinds_are_refused(known: dict[str, object], said: str) -> None:
    a, b = _run({"pgd": [0.2]}, [0.2]), _run({"pgd": [0.2]}, [0.2], **known)
    with pytest.raises(UserError, match=said):
        optimality.scores([a, b], [])


def test_runs_at_different_eps_share_none() -> None:
    with pytest.raises(UserError, match="share no eps"):
        optimality.scores([_run({"pgd": [0.2]}, [0.2]), _run({"pgd": [0.2]}, [0.3])], [])


def test_nothing_broken_is_no_optimality() -> None:
    table, _ = _scores([_run({"pgd": [INF]}, [0.2])])
    assert table["optimality"].isna().all()


def test_stored_runs_of_the_model_are_gathered_and_faults_are_told(tmp_path) -> None:
    run = kept(_run({"pgd": [0.2, INF]}, [0.2]), tmp_path / "runs" / "a")
    same = kept(_run({"mim": [0.2, 0.2]}, [0.2]), tmp_path / "runs" / "b")
    kept(_run({"mim": [0.2, 0.2]}, [0.2], weights_sha256="b" * 64), tmp_path / "runs" / "other")
    kept(_run({"mim": [0.2, 0.2]}, [0.2], norm="l2"), tmp_path / "runs" / "norm")
    kept(_run({"mim": [0.2, 0.2]}, [0.2], finished=False), tmp_path / "runs" / "half")
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "run.json").write_text("{")
    said: list[str] = []
    stored = alike.load_like([tmp_path / "runs", tmp_path / "runs"], [run], said.append)
    assert [made.directory for made in stored] == [same.directory]
    assert len(said) == 2
    assert "half" in said[0] and "not finished" in said[0]
    assert "torn" in said[1] and "damaged" in said[1]


def test_written_tables_hold_the_numbers(tmp_path) -> None:
    run = _run({"pgd": [0.2, INF], "fgsm": [INF, 0.2]}, [0.2])
    table, notes = optimality.scores([run], [])
    optimality.write(tmp_path, table, notes, run)
    back = pd.read_csv(tmp_path / "optimality.csv")
    assert list(back.columns) == list(optimality.COLUMNS)
    assert back["optimality"].tolist() == [0.5, 0.5]
    assert "AttackBench" in (tmp_path / "optimality.tex").read_text()
