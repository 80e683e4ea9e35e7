"""The Markdown in which `benchmarks/tables.py` writes the tables of docs/benchmarks.md."""

import pytest

from tier4k.benchmarks.remake.markdown import cell, markdown, number, span, with_table
from tier4k.heads.evaluation.summary import Summary

NAN = float("nan")


def summary(mean: float, sd: float, interval: tuple[float, float] | None) -> Summary:
    return Summary((mean,), mean, sd, mean, interval, "", None, NAN, NAN)


def test_numbers_have_no_zero_before_the_point() -> None:
    assert [number(value) for value in (0.7, -0.25, 10.5, -10.02, 0.9996)] == [
        ".700",
        "-.250",
        "10.500",
        "-10.020",
        "1.000",
    ]
    assert span([0.03, 0.01, 0.02]) == ".010 to .030"
    assert span([0.0301, 0.0299]) == ".030"


def test_a_cell_shows_only_what_exists() -> None:
    assert cell(summary(0.7, 0.02, (0.65, 0.75))) == ".700 ± .020 [.650, .750]"
    assert cell(summary(0.7, 0.02, None)) == ".700 ± .020"
    assert cell(summary(0.7, NAN, None)) == ".700"
    assert cell(summary(NAN, NAN, None)) == "none"


def test_a_table_is_replaced_between_its_own_marks_only() -> None:
    page = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\nkept\n<!-- end -->\nc\n"
    table = markdown(["one", ""], [["1", ""]])
    changed = with_table(page, "x", table)
    assert changed == page.replace("old", "| one | |\n|---|---|\n| 1 | |")
    assert with_table(changed, "x", table) == changed
    with pytest.raises(ValueError, match="0 places for the table 'z'"):
        with_table(page, "z", table)
