"""Which columns of a table fit into a width, and how wide each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tier4k.cache.text import printable
from tier4k.extract.screen.table import ESSENTIAL, Column, Table
from tier4k.extract.screen.wrap import words

SEPARATOR = 3  # characters between two columns: a space, a line, a space
FRAME = 4  # characters at both ends of a line: a line and a space each

WRAPPED_WIDTH = 16  # characters; cells that are broken between words are not narrower than this


@dataclass(frozen=True)
class Fit:
    """The columns of a table that fit.

    Attributes:
        numbers: Places of the shown columns in the table.
        widths: Width of each shown column, in characters.
        left_out: Headings of the other columns, in the order in which they were left out.
        shared: Heading and cell of each column that was left out because it is the same in all rows.
        is_whole: False if even the essential columns are too wide.
    """

    numbers: tuple[int, ...]
    widths: tuple[int, ...]
    left_out: tuple[str, ...]
    shared: tuple[tuple[str, str], ...]
    is_whole: bool


def fit_columns(table: Table, width: int) -> Fit:
    """Leave out columns until the others fit. No column is narrower than its words.

    First are those that are the same in all of several rows, then the least important ones. A column that
    still fits beside the others is put back.

    A column without any text is no loss: it is not shown, unless it is essential.

    Args:
        table: The table.
        width: Number of characters of a line.
    """
    cells = list(table.cells())
    sizes = []
    numbers = []
    shared = {}
    for number, column in enumerate(table.columns):
        own = [row[number] for row in cells]
        sizes.append(_size(column, own, table.show_headings))
        if any(own) or column.importance == ESSENTIAL:
            numbers.append(number)
        if len(own) > 1 and len(set(own)) == 1:
            shared[number] = own[0]
    left_out: list[int] = []
    while _smallest(sizes, numbers) > width:
        least = min(reversed(numbers), key=lambda number: _rank(table.columns[number], number in shared))
        if table.columns[least].importance == ESSENTIAL:
            return Fit((), (), (), (), is_whole=False)
        numbers.remove(least)
        left_out.append(least)
    for number in left_out[::-1]:  # a narrow column may fit where a wider one was left out after it
        if _smallest(sizes, [*numbers, number]) <= width:
            numbers = sorted([*numbers, number])
            left_out.remove(number)
    widths = _narrowed([sizes[number] for number in numbers], width)
    same = []
    others = []
    for number in left_out:
        heading = table.columns[number].heading
        if number in shared:
            same.append((heading, shared[number]))
        else:
            others.append(heading)
    return Fit(tuple(numbers), widths, tuple(others), tuple(same), is_whole=True)


def _rank(column: Column, is_shared: bool) -> tuple[bool, bool, int]:
    """Return what the columns are left out by, the smallest first."""
    return column.importance == ESSENTIAL, not is_shared, column.importance


@dataclass(frozen=True)
class _Size:
    """Width of a column with unbroken cells, and the smallest width."""

    natural: int
    smallest: int


def _size(
    column: Column,
    cells: Sequence[str],
    with_heading: bool,
) -> _Size:
    heading = [printable(column.heading)] if with_heading else []
    longest = _longest(cells)
    smallest = max(_longest(_words(cells)), min(longest, WRAPPED_WIDTH)) if column.wraps else longest
    return _Size(_longest([*cells, *heading]), max(smallest, _longest(_words(heading))))


def _narrowed(sizes: Sequence[_Size], width: int) -> tuple[int, ...]:
    """Take characters from the widest columns that can be narrower, until the table fits."""
    widths = [size.natural for size in sizes]
    while _total(widths) > width:
        narrower = [number for number, size in enumerate(sizes) if widths[number] > size.smallest]
        widest = max(narrower, key=lambda number: widths[number])
        widths[widest] -= 1
    return tuple(widths)


def _smallest(sizes: Sequence[_Size], numbers: Sequence[int]) -> int:
    """Return the smallest width of a table with some of the columns."""
    return _total([sizes[number].smallest for number in numbers])


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + SEPARATOR * (len(widths) - 1) + FRAME


def _longest(texts: Sequence[str]) -> int:
    return max((cell_len(text) for text in texts), default=0)


def _words(texts: Sequence[str]) -> list[str]:
    found = []
    for text in texts:
        found += words(text)
    return found
