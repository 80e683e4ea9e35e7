"""Tables fit a terminal without losing a value, and reach programs with their raw numbers."""

import io
import json

import numpy as np
import pandas as pd

from tier4k.extract.screen.formats import as_csv, as_json, as_markdown
from tier4k.extract.screen.table import Column, Table, count_column, text_column
from tier4k.tests.builders.screens import printed

RUN = "nr-all-prompt-8a64133945"

TABLE = Table(
    (
        text_column("run"),
        text_column("data sets", importance=50, wraps=True),
        Column("SRCC of all repeats", lambda row: f"{row['srcc']:.3f} ± 0.010", 90, is_number=True),
        count_column("images", importance=70),
    ),
    (
        {"run": RUN, "data sets": "one two three four five six", "srcc": np.float64(1 / 3), "images": 1200},
        {"run": "b", "data sets": "four", "srcc": np.nan, "images": np.int64(3)},
    ),
    title="Results, with a title of several words",
)


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed(TABLE, width=120)
    assert "one two three four five six" in text and "1,200" in text and "SRCC of all repeats" in text
    assert "left out" not in text


def test_cells_of_several_words_are_broken_before_a_column_is_left_out() -> None:
    text = printed(TABLE, width=76)
    assert "left out" not in text and "six" in text
    assert "one two three four five six" not in text


def test_the_least_important_columns_are_left_out_and_named_in_that_order() -> None:
    lines = printed(TABLE, width=46).splitlines()
    assert max(map(len, lines)) <= 46
    text = " ".join(" ".join(lines).split())
    assert (
        "left out at 46 columns: data sets, images (shown on a wider terminal, or by `--format csv`)" in text
    )
    assert "0.333 ± 0.010" in text and RUN in text


def test_names_of_users_cannot_give_the_terminal_commands() -> None:
    columns = (text_column("run"), text_column("\x1b]0;title\x07"))
    table = Table(columns, ({"run": "\x1b[31mred\x9b2J", "\x1b]0;title\x07": "a"},), title="\x1b[1mbold")
    text = printed(table, width=120)
    assert r"\x1b[31mred\x9b2J" in text and r"\x1b]0;title\x07" in text and r"\x1b[1mbold" in text
    assert not set(text) & set("\x1b\x07\x9b")


def test_a_narrow_column_is_kept_where_a_wide_one_is_left_out() -> None:
    columns = (text_column("run"), text_column("narrow", importance=10), text_column("wide", importance=20))
    table = Table(columns, ({"run": "a", "narrow": "n", "wide": "w" * 60},))
    text = printed(table, width=40)
    assert "narrow" in text.partition("left out")[0]
    assert "left out at 40 columns: wide (" in text


def test_where_no_column_may_be_left_out_each_value_has_a_line() -> None:
    text = printed(TABLE, width=24)
    assert f"run: {RUN}" in text.splitlines()
    assert "images: 1,200" in text.splitlines()


def test_every_value_is_whole_at_every_width() -> None:
    for width in range(20, 121):
        text = printed(TABLE, width)
        assert RUN in text, width
        assert ("0.333 ± 0.010" in text) != (
            "SRCC of all repeats" in " ".join(text.partition("left out")[2].split())
        ), width


def test_csv_has_the_raw_numbers() -> None:
    frame = pd.read_csv(io.StringIO(as_csv(TABLE)))
    assert frame["srcc"][0] == 1 / 3 and np.isnan(frame["srcc"][1])
    assert frame["images"].tolist() == [1200, 3]


def test_json_is_a_list_of_objects_with_null_for_nan() -> None:
    first, second = json.loads(as_json(TABLE))
    assert first == {"run": RUN, "data sets": "one two three four five six", "srcc": 1 / 3, "images": 1200}
    assert second["srcc"] is None
    assert json.loads(as_json(Table(TABLE.columns, ()))) == []


def test_markdown_has_all_columns_as_a_reader_sees_them() -> None:
    table = Table((text_column("a"), count_column("n")), ({"a": "x|y", "n": 1000},), "T")
    assert as_markdown(table).splitlines() == [
        "**T**",
        "",
        "| a | n |",
        "| --- | ---: |",
        "| x\\|y | 1,000 |",
    ]


def test_columns_that_are_the_same_in_all_lines_are_left_out_first_and_their_value_is_named() -> None:
    columns = (
        text_column("run"),
        text_column("method", importance=90),
        text_column("options", importance=10),
    )
    rows = ({"run": "a", "method": "nr", "options": "x" * 12}, {"run": "b", "method": "nr", "options": ""})
    table, _, below = printed(Table(columns, rows), width=30).partition("the same in all lines: ")
    assert "x" * 12 in table and "method" not in table
    assert below.split() == ["method", "nr"]
    one_line = printed(Table(columns, rows[:1]), width=30)
    assert "nr" in one_line.partition("left out")[0]
