"""Tables byte for byte.

`python -m tests.report.test_render` writes the golden files anew; read the difference before keeping it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.core import files, registry
from bench.core.types import Norm, UserError, Verdict
from bench.papers import published
from bench.papers.captions import captions
from bench.papers.mat import systems, tables
from bench.report import latex, measures, render, run_table
from bench.store import runs
from bench.store.record import ModelRecord
from tests.support.stored_runs import entry, record

GOLDEN = Path(__file__).parent / "golden"
EPS = 8 / 255


def rows(attack: str, broken: list[int], eps: float | None = EPS, norm: Norm = "linf") -> list[Verdict]:
    """Eight images, the last one misclassified when clean."""
    return [
        Verdict(index, 0, int(index == 7), attack, norm, eps, int(hit), 0.01 * index if hit else 0.0, True, hit, 40, 40)
        for index in range(8)
        for hit in [index in broken]
    ]


def stored(known: dict[str, object], *verdicts: list[Verdict]) -> runs.Run:
    about = {"eps": EPS, "eps_written": "8/255", "indices": tuple(range(8))}
    return runs.Run(runs.frame([row for part in verdicts for row in part]), record(**about | known))


RUN = stored(
    {
        "model": "digits_mat_so&bibo",
        "data": "digits",
        "attacks": (entry("pgd(steps=40)"), entry("ddn", "l2", minimal=True)),
        "attack_seconds": {"pgd(steps=40)": 1.25},
    },
    rows("pgd(steps=40)", [1, 2]),
    rows("ddn", [1, 2, 3], None, "l2"),
)
SWEEP = stored(
    {"model": "m", "data": "digits", "eps": None, "eps_grid": ((4 / 255, "4/255"), (EPS, "8/255"))},
    rows("pgd", [1], 4 / 255),
    rows("pgd", [1, 2]),
)


def mat_run(model: str, defense: str, data: str, pgd: list[int], adaptive: list[int]) -> runs.Run:
    attacks = tuple(map(entry, ("pgd", "mat", "ftc")))
    about = {"model": model, "defense": defense, "data": data, "attacks": attacks, "adaptive": ("mat", "ftc")}
    return stored(about, rows("pgd", pgd), rows("mat", adaptive[:1]), rows("ftc", adaptive[1:]))


MAT_RUNS = [
    mat_run("digits-mat-so-bibo", "mat", "digits", [1], [1, 2]),
    mat_run("cifar10-mat-so", "mat", "cifar10", [], [1, 2, 3]),
    mat_run("trades_mnist", "trades", "mnist", [1], [2]),
    mat_run("plain", "madry", "mnist", [1], [2]),
]


def made() -> dict[str, str]:
    table_4 = tables.table_4(MAT_RUNS, published.load())
    asked, about = measures.budgets(RUN.record), captions("tables")["mat/4"]
    return {
        "table.csv": render.csv(measures.summary(RUN)),
        "table.tex": run_table.latex(RUN),
        "table.md": render.markdown(measures.summary(RUN), asked),
        "table.txt": run_table.console(RUN) + "\n",
        "mat-4.csv": render.csv(table_4),
        "mat-4.tex": latex.floats(table_4, about.title, about.notes, {EPS: "8/255"}, about.headings),
    }


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_tables_byte_for_byte(name: str) -> None:
    assert made()[name].encode() == (GOLDEN / name).read_bytes()


def test_a_run_s_tables_are_written_beside_it(tmp_path: Path) -> None:
    run_table.write(RUN, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: (GOLDEN / name).read_bytes() for name in ("table.csv", "table.tex", "table.md")
    }
    with pytest.raises(ValueError, match="directory"):
        run_table.write(RUN)


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    run_table.write(RUN, tmp_path)
    read = pd.read_csv(tmp_path / "table.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(read, measures.summary(RUN), check_exact=True, check_dtype=False)


def test_a_sweep_s_curve(tmp_path: Path) -> None:
    table = run_table.write_curve(SWEEP, tmp_path)
    assert list(table["robust_accuracy"]) == [0.75, 0.625] * 2
    text = (tmp_path / "curve.tex").read_text()
    assert "4/255 & 87.50 &" in text and r"$\varepsilon$ from 4/255 to 8/255" in text


def test_eps_is_shown_as_written() -> None:
    table = pd.DataFrame({"eps": [8 / 255, 0.031, None]})
    assert list(render.readable(table, {8 / 255: "8/255"})["eps"]) == ["8/255", "0.031", ""]


def test_an_empty_table_has_its_headings() -> None:
    empty = measures.summary(stored({"model": "m", "data": "d"}))
    assert render.csv(empty).count("\n") == 1
    assert (
        "attack" in render.console(empty) and "attack" in latex.floats(empty, "") and "attack" in render.markdown(empty)
    )


def test_notes_say_what_is_doubtful() -> None:
    flawed = stored(
        {"model": "m", "finished": False}, [Verdict(0, 0, 0, "pgd", "linf", EPS, -1, 0.0, False, False, 1, 1)]
    )
    assert run_table.notes(flawed).endswith(
        "1 row met NaN or infinity: no evidence of robustness. The run is not finished."
    )


def test_a_caption_says_that_the_order_is_not_the_official_one() -> None:
    run = stored({"data": "cifar100", "split": "test", "data_order": "one image of each class in turn"})
    assert "data cifar100 (test, one image of each class in turn), n = 8" in run_table.caption(run)


def test_paper_tables_are_found_by_name() -> None:
    assert registry.tables["mat/4"] is tables.table_4
    table = tables.table_4([], published.load())
    assert [name for name in table if name.endswith("published")] == [
        "pgd_accuracy_published",
        "adaptive_accuracy_published",
    ]
    assert len(table) == 10 and table["pgd_accuracy"].isna().all()


def test_rows_of_mat_table_4() -> None:
    def variant(**known: Any) -> tuple[str, str, str]:
        return systems.parts(ModelRecord(**known))

    assert variant(defense="mat", model="mat-bibo") == ("MAT", "X", "O")
    assert variant(defense="mat", model="m", trained_with={"mat": {"alpha": 1, "beta": 0}}) == ("MAT", "O", "X")
    assert variant(defense="trades", model="m") == ("TRADES", "-", "O")
    assert variant(defense="madry", model="mat") == ("AT", "-", "-")
    assert variant(model="my-natural-net") == ("Natural", "-", "-")
    table = tables.table_4(MAT_RUNS, published.load())
    line = table[table["model"] == "cifar10-mat-so"].iloc[0]
    assert line[["data", "so", "bibo"]].tolist() == ["CIFAR10", "O", "X"]
    numbers = line[["pgd_accuracy", "pgd_accuracy_published", "adaptive_accuracy", "adaptive_accuracy_published"]]
    assert numbers.tolist() == pytest.approx([7 / 8, 0.7992, 4 / 8, 0.0127])


def test_published_numbers(tmp_path: Path) -> None:
    numbers = published.load()
    assert len(numbers) == 520 and set(numbers["paper"]) == {"ADR-000", "BAT-003", "ER-004", "MAT-002"}
    with pytest.raises(UserError, match=r"none\.toml cannot be read"):
        published.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[[")
    with pytest.raises(UserError, match="cannot be read"):
        published.load(tmp_path / "bad.toml")


if __name__ == "__main__":
    for name, text in made().items():
        files.write_atomically(GOLDEN / name, text)
