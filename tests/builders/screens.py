"""Tables as a terminal shows them."""

import io

from rich.console import Console

from tier4k.extract.screen.table import Table
from tier4k.extract.screen.terminal import print_table


def printed(table: Table | None, width: int = 160) -> str:
    """Return what a terminal of a width shows of a table."""
    assert table is not None
    console = Console(file=io.StringIO(), width=width, no_color=True)
    print_table(console, table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def cells_by_heading(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the cells of each column by its heading."""
    columns = zip(*table.cells(), strict=True)
    return dict(zip([column.heading for column in table.columns], columns, strict=True))


def headings(table: Table) -> list[str]:
    """Return the headings of all columns."""
    return [column.heading for column in table.columns]
