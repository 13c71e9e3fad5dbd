"""Tables in LaTeX: what stands where, and that it fits a page."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.report import latex
from bench.report.captions import settings
from bench.report.latex_columns import limited
from bench.report.latex_parts import LINES, ROOM

TWO = pd.DataFrame(
    {
        "data": ["MNIST", "MNIST", "digits"],
        "defense": ["AT", "TRADES", "AT"],
        "model": ["m_at", None, "d_at"],
        "eps": [0.3, None, 0.2],
        "n": pd.array([500, None, 360], dtype="Int64"),
        "pgd_steps": ["40", None, "40"],
        "pgd_accuracy": [0.914, None, 0.6167],
        "pgd_accuracy_low": [0.886, None, 0.5655],
        "pgd_accuracy_high": [0.935, None, 0.6654],
        "pgd_accuracy_published": [0.8826, 0.9438, None],
    }
)


@pytest.mark.parametrize(
    ("name", "numbers", "written"),
    [
        ("pgd_accuracy", (0.364, 0.3068, 0.4253), "36.4 (31–43)"),
        ("pgd_accuracy", (0.9607, 0.9568, 0.9643), "96.1 (95.7–96.4)"),
        ("pgd_accuracy", (0.9999, 0.999, 1.0), "99.99 (99.90–100.00)"),
        ("mean_size", (2.081, 2.02, 2.15), "2.08 (2.02–2.15)"),
        ("cosine", (0.9296, 0.9163, 0.9429), "0.930 (0.916–0.943)"),
        ("mean_size", (1.5, float("nan"), float("nan")), "1.5"),
        ("mean_size", (float("nan"), 1.0, 2.0), ""),
        ("mean_size", (2.0, 2.0, 2.0), "2.0 (2.0–2.0)"),
    ],
)
def test_limits_have_as_many_decimals_as_say_something(name: str, numbers: tuple[float, ...], written: str) -> None:
    assert limited(name, *numbers) == written


def test_limits_stand_in_cells_and_published_numbers_beside_measured_ones() -> None:
    text = latex.floats(TWO, "A 100 % caption.", "How to read it.", headings={"pgd_accuracy": "PGD %"})
    assert text.startswith("% Needs \\usepackage{booktabs}.\n\\begin{table}\n") and text.count(r"\begin{table}") == 1
    assert r"\caption{A 100 \% caption.}" in text and r"\begin{tabular}{@{}llrr@{}}" in text
    assert r"\multicolumn{2}{c}{PGD \%}" in text and "defense & model & ours & paper" in text
    assert r"\multicolumn{4}{@{}l}{\textit{MNIST}} \\" in text and text.count("textit") == 2
    assert "AT & m\\_at & 91.4 (88.6--93.5) & 88.26 \\\\" in text and "TRADES &  &  & 94.38 \\\\" in text
    note = text.partition(r"\raggedright ")[2].partition("}\n")[0]
    assert note == (
        "How to read it. Ours: measured here; paper: as published. In parentheses: 95\\% limits. A row without a model "
        "has only the published numbers. $\\varepsilon$ = 0.3 (MNIST), 0.2 (digits). n = 500 (MNIST), 360 (digits). "
        "pgd steps = 40."
    )


def test_a_setting_that_nothing_determines_stays_a_column() -> None:
    rows = pd.DataFrame({"data": ["a"] * 8, "model": list("stuvwxyz"), "n": [5, 5, 5, 5, 5, 5, 5, 7]})
    assert settings(rows, {}) == {"n": "n = 5 (a); but 7 (z)"}
    mixed = rows.assign(n=range(8))
    assert settings(mixed, {}) == {} and "model & n \\\\" in latex.floats(mixed, "")
    attacks = pd.DataFrame({"attack": ["pgd", "cw"] * 2, "steps": ["40", "100"] * 2})
    assert settings(attacks, {}) == {"steps": "steps = 40 (pgd), 100 (cw)"}
    before = pd.DataFrame({"eps": [0.1, 0.1], "model": ["a", "b"]})
    assert settings(before, {}) == {} and settings(before[["model", "eps"]], {}) == {"eps": "ε = 0.1"}


def test_a_wide_table_is_cut_and_says_whose_each_row_is() -> None:
    wide = pd.DataFrame({"data": "MNIST", "defense": ["AT", "TRADES"], "model": ["a_long_model_name", "m"]})
    for number in range(12):
        wide[f"accuracy number {number}"] = [0.5, 0.25 if number < 6 else None]
    text = latex.floats(wide, "Wide.")
    heads = [line for line in text.splitlines() if line.startswith((r"\begin{tabular}", "defense &", "model &"))]
    assert len(heads) > 2 and heads[1].startswith("defense & model") and heads[3].startswith("model &")
    assert text.count("a\\_long\\_model\\_name &") == len(heads) // 2 > text.count("\nm &") + 1
    assert "Parts after the first have the rows with a number in them." in text and "resizebox" not in text


def test_a_column_that_cannot_be_cut_is_reduced_and_said_to_be() -> None:
    keys = {f"key{place}": ["x" * 29] for place in range(4)}
    text = latex.floats(pd.DataFrame(keys | {"size": [1.0]}), "")
    assert "% Needs \\usepackage{booktabs,graphicx}." in text and "Reduced to the width of the text." in text
    assert text.count(r"\resizebox{\linewidth}{!}{%") == text.count(r"\end{tabular}}") == 1


def test_long_cells_are_broken_and_long_tables_continued() -> None:
    spec = "cw(searches=5,steps=100,lr=0.1,c0=100,confidence=9)"
    rows = pd.DataFrame({"attack": [spec, *(f"pgd(steps={count})" for count in range(90))], "size": range(91)})
    text = latex.floats(rows, "Many.", "Read.")
    assert r"\parbox[t]{12em}{\raggedright cw(\allowbreak{}searches=\allowbreak{}5,\allowbreak{}" in text
    assert text.count(r"\caption{Many.}") == 1 and text.count(r"\caption{Many. (continued)}") == 2
    assert text.count(r"\addtocounter{table}{-1}") == 2 and text.count("Read.") == 1
    assert text.index("Read.") > text.rindex(r"\bottomrule")


def test_small_numbers_are_powers_and_letters_are_escaped() -> None:
    text = latex.floats(pd.DataFrame({"model": ["l2_norm%"], "size": [7.139e-05]}), "ε × 2")
    assert r"l2\_norm\% & $7.139\cdot 10^{-5}$" in text and r"\caption{$\varepsilon$ $\times$ 2}" in text
    assert latex.escaped("100% a_b & #$ {x} ~^\\") == (
        r"100\% a\_b \& \#\$ \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert ROOM < 345 / 4.25 and LINES * 9.5 < 592 - 4 * 12
