"""A table: rows of raw values, and the columns in which a reader is shown them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tier4k.cache.text import printable

Row = Mapping[str, Any]
"""Raw values by name: numbers, texts, NaN or None."""

ESSENTIAL = 100
"""Importance of a column that is never left out."""


@dataclass(frozen=True)
class Column:
    """A column of a table for readers.

    Attributes:
        heading: Its title.
        show: Returns the text of a cell for the raw values of a row.
        importance: Where the columns do not fit, the one with the smallest importance is left out first, and
            the last one among equals; `ESSENTIAL` is never left out.
        is_number: Whether cells are justified right.
        wraps: Whether a cell may take several lines, broken between words.
    """

    heading: str
    show: Callable[[Row], str]
    importance: int = ESSENTIAL
    is_number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of raw values with the columns in which a reader is shown them.

    Attributes:
        columns: The columns for readers.
        rows: The raw values. Programs get all of them, also those that no column shows.
        title: What the table is about.
        style: Returns the style of a row on a terminal, such as "bold".
        section: Name of a raw value; where it changes, a terminal shows a line. "" shows no lines.
        show_headings: Whether readers are shown the headings.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    style: Callable[[Row], str] = lambda _: ""
    section: str = ""
    show_headings: bool = True

    def cells(self) -> Iterator[list[str]]:
        """Yield the texts of each row, without characters that a terminal obeys."""
        for row in self.rows:
            yield [printable(column.show(row)) for column in self.columns]


def text_column(
    name: str,
    heading: str = "",
    importance: int = ESSENTIAL,
    wraps: bool = False,
) -> Column:
    """Return a column that shows a raw value as it is.

    Args:
        name: Name of the raw value.
        heading: Title of the column; "" for the name.
        importance, wraps: See `Column`.
    """
    return Column(heading or name, lambda row: str(row[name]), importance, wraps=wraps)


def count_column(
    name: str,
    heading: str = "",
    importance: int = ESSENTIAL,
) -> Column:
    """Return a column that shows a whole number, with commas between thousands."""
    return Column(heading or name, lambda row: f"{row[name]:,}", importance, is_number=True)


def number_text(value: float, digits: int = 3) -> str:
    """Return a number with a fixed number of digits after the point; "NaN" if it is none."""
    return "NaN" if math.isnan(value) else f"{value:.{digits}f}"


def with_value(
    table: Table,
    name: str,
    value: object,
) -> Table:
    """Return a table whose rows have one more raw value, before the others; no column shows it."""
    return replace(table, rows=tuple({name: value, **row} for row in table.rows))


def joined(tables: Sequence[Table]) -> Table:
    """Return a table with the rows of several tables; columns and style are those of the first."""
    first, *others = tables
    rows = list(first.rows)
    for table in others:
        rows += table.rows
    return replace(first, rows=tuple(rows))
