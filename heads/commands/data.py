"""`tier data`: check data sets."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.commands.console import make_console, progress_counter
from tier4k.heads.commands.options import DataArgument, LayoutOption, RatersOption, TextEncoderOption


def data_check(
    data: DataArgument,
    layout: LayoutOption = None,
    raters: RatersOption = None,
    problems: Annotated[
        Path | None,
        typer.Option(help="CSV file to which every problem is written."),
    ] = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
) -> None:
    """Check every row and every image of DATA and print a summary. Problems cause exit code 2."""
    from tier4k.extract.datasets.check import check
    from tier4k.extract.datasets.summary import summarize, summary_table

    console = make_console()
    with progress_counter(console, "check images") as count:
        report = check(data, layout, progress=count, raters=raters)
    console.print(summary_table(summarize(report, text_encoder)))
    if problems:
        report.write_problems(problems)
    if report.problems:
        raise report.error()
    console.print(f"No problems in {len(report.manifest):,} rows.", style="green")
