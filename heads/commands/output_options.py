"""Options of what a command prints: `--format` and `--quiet`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from tier4k.extract.screen.choices import TableFormat
from tier4k.heads.commands.console import Console

FormatOption = Annotated[
    TableFormat,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format of tables: table, csv, json or md.",
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No notes, no progress."),
]


@dataclass(frozen=True)
class OutputGroup:
    """How a command prints tables, and whether it prints notes and progress."""

    table_format: FormatOption = "table"
    quiet: QuietOption = False

    def console(self) -> Console:
        """Return the console of the command."""
        return Console(self.table_format, self.quiet)
