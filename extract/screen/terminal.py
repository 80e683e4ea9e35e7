"""Tables and sentences on a terminal."""

from collections.abc import Iterator

from rich import table as rich_table
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tier4k.cache.text import printable
from tier4k.extract.screen.fit import Fit, fit_columns
from tier4k.extract.screen.table import Table
from tier4k.extract.screen.wrap import wrapped


def print_table(console: Console, table: Table) -> None:
    """Print a table with the columns that fit, and name those that were left out below it.

    Of a column that is the same in all rows, its value is named too.

    Where even the essential columns do not fit, each row becomes a few lines with all of its values.
    """
    for line in wrapped(table.title, console.width) if table.title else []:
        print_whole(console, line, "italic")
    fit = fit_columns(table, console.width)
    if not fit.is_whole:
        for line, style in _as_lines(table):
            print_whole(console, line, style)
        return
    console.print(_rich_table(table, fit))
    for text in _notes(fit, console.width):
        print_sentence(console, text, "dim")


def _notes(fit: Fit, width: int) -> Iterator[str]:
    """Yield sentences about the columns that were left out."""
    if fit.shared:
        values = ", ".join(f"{heading} {value}" for heading, value in fit.shared)
        yield f"the same in all lines: {values}"
    if fit.left_out:
        names = ", ".join(fit.left_out)
        yield f"left out at {width} columns: {names} (shown on a wider terminal, or by `--format csv`)"


def print_sentence(
    console: Console,
    text: str,
    style: str | None = None,
) -> None:
    """Print a text broken between words; words and commands between backticks stay whole."""
    for line in wrapped(text, console.width):
        print_whole(console, line, style)


def print_whole(
    console: Console,
    line: str,
    style: str | None = None,
) -> None:
    """Print one line that is never broken, so that it can be copied."""
    console.print(printable(line), style=style, soft_wrap=True)


def _rich_table(table: Table, fit: Fit) -> rich_table.Table:
    shown = rich_table.Table(show_header=table.show_headings)
    for number, width in zip(fit.numbers, fit.widths, strict=True):
        column = table.columns[number]
        heading = printable(column.heading)
        shown.add_column(heading, justify="right" if column.is_number else "left", width=width)
    following = [*table.rows[1:], {}]
    for row, after, cells in zip(table.rows, following, table.cells(), strict=False):
        end_section = bool(table.section) and row[table.section] != after.get(table.section)
        chosen = [_cell(cells[number], width) for number, width in zip(fit.numbers, fit.widths, strict=True)]
        shown.add_row(*chosen, style=table.style(row), end_section=end_section)
    return shown


def _cell(text: str, width: int) -> Text:
    """Return a cell whose lines are broken where `wrapped` breaks them."""
    lines = [text] if cell_len(text) <= width else wrapped(text, width)
    return Text("\n".join(lines))


def _as_lines(table: Table) -> Iterator[tuple[str, str]]:
    """Yield each row as one line for each value, and an empty line between rows."""
    for number, (row, cells) in enumerate(zip(table.rows, table.cells(), strict=True)):
        if number and table.show_headings:
            yield "", ""
        if not table.show_headings:
            yield ": ".join(cells), table.style(row)
            continue
        for column, cell in zip(table.columns, cells, strict=True):
            yield f"{column.heading}: {cell}", table.style(row)
