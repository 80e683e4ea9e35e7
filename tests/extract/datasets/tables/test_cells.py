"""Numbers in cells."""

import math
from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tier4k.extract.datasets.tables.cells import (
    Formula,
    PlacedImage,
    numbers,
    read_numbers,
    shown_cell,
    with_numbers,
)

NAN = math.nan


def column(*cells: object) -> pd.Series:
    """The cells as plain objects."""
    return pd.Series(cells, dtype=object)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("1.5", " 2 ", "-3e2", "", None), [1.5, 2, -300, NAN, NAN]),
        ((1, 2.5, "3", Decimal("4.5"), np.int64(5)), [1, 2.5, 3, 4.5, 5]),
        (("1,5", "2", "-,25", "n/a", ""), [1.5, 2, -0.25, NAN, NAN]),
        (("1,234", "2,5"), [1.234, 2.5]),
        (("1,5", "2.5"), [NAN, 2.5]),  # one of the two is a slip, so that a person must look
        (("1,234.5", "1,5"), [NAN, NAN]),
        (("1,5", 2.5), [1.5, 2.5]),  # a number of a workbook has no point of its own
        (("1,2,3", "1,5"), [NAN, 1.5]),
        (("85 %", "90%", "7.5\u00a0%", ""), [85, 90, 7.5, NAN]),
        (("85 %", "90"), [NAN, 90]),
        (("85 %", 0.9), [NAN, 0.9]),
        (("85,5 %", "90 %"), [85.5, 90]),
        (("85,5 %", "90,5"), [NAN, 90.5]),
        (("good", "%", ",", "1,"), [NAN] * 4),
        ((True, False, np.True_, "True"), [NAN] * 4),
        (([1], {"a": 1}, b"1", datetime(2026, 1, 1), 1j), [NAN] * 5),
        ((Formula("=1"), PlacedImage.at("7", "t.parquet/#image[7]"), "1"), [NAN, NAN, 1]),
        ((10**400, -(10**5000), "1"), [math.inf, -math.inf, 1]),
    ],
)
def test_the_numbers_of_a_column(cells: tuple[object, ...], expected: list[float]) -> None:
    found = numbers(column(*cells))
    assert found.dtype == float
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series([1.5, None]), [1.5, NAN]),
        (pd.Series([True, False]), [NAN, NAN]),
        (pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02"])), [NAN, NAN]),
        (pd.Series(["1,5", "2"], dtype="str"), [1.5, 2]),
        (pd.Series([], dtype=object), []),
    ],
)
def test_columns_of_other_types(cells: pd.Series, expected: list[float]) -> None:
    np.testing.assert_array_equal(numbers(cells), expected)


def test_how_numbers_are_written_is_said() -> None:
    assert read_numbers(column("1.5", "x")).form == ""
    assert read_numbers(column("1,5", "2")).form == "with decimal commas"
    assert (
        read_numbers(column("1,5 %", "1,234 %")).form == "with decimal commas (1,234 is 1.234), in per cent"
    )


def test_the_column_decides_before_it_is_joined_with_another() -> None:
    commas, points = column("1,5", "bad", ""), column("2.5")
    joined = pd.concat([with_numbers(commas), with_numbers(points)], ignore_index=True)
    np.testing.assert_array_equal(numbers(joined), [1.5, NAN, NAN, 2.5])
    assert joined.tolist()[1:3] == ["bad", ""]  # as written, for messages
    assert with_numbers(points) is points


def test_a_cell_in_a_message_is_short_and_dates_are_written_as_such() -> None:
    assert shown_cell("a") == "'a'"
    assert shown_cell(datetime(2024, 5, 3)) == "the date 2024-05-03 00:00:00"
    assert len(shown_cell(10**400)) < 100
    assert "\n" not in shown_cell(np.ones((3, 3)))
