"""Which columns of a table fit into a width, and how wide each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tier4k.extract.screen.table import ESSENTIAL, Table
from tier4k.extract.screen.wrap import words

SEPARATOR = 3  # characters between two columns: a space, a line, a space
FRAME = 4  # characters at both ends of a line: a line and a space each


@dataclass(frozen=True)
class Fit:
    """The columns of a table that fit.

    Attributes:
        numbers: Places of the shown columns in the table.
        widths: Width of each shown column, in characters.
        left_out: Headings of the other columns, in the order in which they were left out.
        is_whole: False if even the essential columns are too wide.
    """

    numbers: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: tuple[str, ...]
    is_whole: bool


def fit_columns(table: Table, width: int) -> Fit:
    """Leave out the least important columns until the others fit. No column is narrower than its words.

    Args:
        table: The table.
        width: Number of characters of a line.
    """
    cells = list(table.cells())
    natural, smallest = [], []
    for number, column in enumerate(table.columns):
        own = [row[number] for row in cells]
        heading = [column.heading] if table.show_headings else []
        natural.append(_longest([*own, *heading]))
        unbroken = _words(own) if column.wraps else own
        smallest.append(_longest([*unbroken, *_words(heading)]))
    numbers = list(range(len(table.columns)))
    left_out: list[str] = []
    while _total([smallest[number] for number in numbers]) > width:
        least = min(reversed(numbers), key=lambda number: table.columns[number].importance)
        if table.columns[least].importance == ESSENTIAL:
            return Fit((), (), tuple(left_out), is_whole=False)
        numbers.remove(least)
        left_out.append(table.columns[least].heading)
    chosen = [natural[number] for number in numbers]
    limits = [smallest[number] for number in numbers]
    return Fit(tuple(numbers), _narrowed(chosen, limits, width), tuple(left_out), is_whole=True)


def _narrowed(
    widths: list[int],
    smallest: Sequence[int],
    width: int,
) -> tuple[int, ...]:
    """Take characters from the widest columns that can be narrower, until the table fits."""
    while _total(widths) > width:
        narrower = [number for number, size in enumerate(widths) if size > smallest[number]]
        widest = max(narrower, key=lambda number: widths[number])
        widths[widest] -= 1
    return tuple(widths)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + SEPARATOR * (len(widths) - 1) + FRAME


def _longest(texts: Sequence[str]) -> int:
    return max((cell_len(text) for text in texts), default=0)


def _words(texts: Sequence[str]) -> list[str]:
    found = []
    for text in texts:
        found += words(text)
    return found
