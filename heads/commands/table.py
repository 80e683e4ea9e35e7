"""`tier table`: show runs in one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.run_options import RunsArgument
from tier4k.heads.reporting.choices import Part

if TYPE_CHECKING:
    import pandas as pd


def table(
    runs: RunsArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File, one metric a line: .csv, .parquet, .xlsx, or .tex (not with --by).",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    by: Annotated[
        Part | None,
        typer.Option(
            "--by",
            metavar="PART",
            help="Parts of the test rows: generator, benchmark or dataset.",
        ),
    ] = None,
    *,
    printing: OutputGroup,
) -> None:
    """Show the metrics of runs in one table, with --by for parts of the test rows."""
    from tier4k.heads.reporting.tables import require_table_suffix, write_table

    if output is not None:
        require_table_suffix(output)
    if output is not None and by and output.suffix == ".tex":
        raise typer.BadParameter(
            ".tex is not supported with --by: pass a .csv, .parquet or .xlsx file",
            param_hint="--output",
        )
    console = printing.console()
    frame = _print_breakdown(console, runs, by) if by else _print_table(console, runs)
    if output is None:
        return
    write_table(frame, output)
    console.result(f"{output}: {frame['run'].nunique()} runs")


def _print_breakdown(
    console: Console,
    runs: Sequence[Path],
    by: Part,
) -> "pd.DataFrame":
    from tier4k.heads.reporting.breakdown import breakdown, breakdown_notes, breakdown_table

    frame = breakdown(runs, by)
    console.show(breakdown_table(frame, runs))
    for note in breakdown_notes(frame):
        console.explain(note)
    return frame


def _print_table(console: Console, runs: Sequence[Path]) -> "pd.DataFrame":
    from tier4k.heads.reporting.tidy import sweep_table, tidy

    frame = tidy(runs)
    console.show(sweep_table(frame))
    return frame
