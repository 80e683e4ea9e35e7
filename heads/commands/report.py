"""`tier report`: runs as a page."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line, progress_counter
from tier4k.heads.commands.options import RunsArgument


def report(
    runs: RunsArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Page to write: .html."),
    ] = Path("report.html"),
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Data set with the images; may be repeated.",
            show_default="the data sets that the runs recorded",
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            "--pictures",
            min=0,
            help="Largest number of thumbnails: the largest errors first, then the first repeats.",
        ),
    ] = 400,
) -> None:
    """Write one page with the tables, plots and images of runs, which opens anywhere without a network."""
    from tier4k.heads.reporting.html.page import write_report

    console = make_console()
    with progress_counter(console, "report") as count:
        page = write_report(runs, output, data or (), images, count)
    shown = f"{page.images:,} of {page.test_images:,} test images"
    print_line(console, f"{page.path}: {page.size / 1e6:.1f} MB, {shown}")
