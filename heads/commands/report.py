"""`tier report`: write runs as an HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.options import RunsArgument
from tier4k.heads.commands.output_options import QuietOption


def report(
    runs: RunsArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="HTML file to write."),
    ] = Path("report.html"),
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Data set that contains the images; may be repeated.",
            show_default="the data sets that the runs recorded",
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            "--pictures",
            min=0,
            help="Largest number of thumbnails; images with the largest errors come first, then the "
            "first repeats.",
        ),
    ] = 400,
    quiet: QuietOption = False,
) -> None:
    """Write one HTML page with the tables, plots and images of runs. It needs no network to open."""
    from tier4k.heads.reporting.html.page import write_report

    console = Console(quiet=quiet)
    with console.task("report") as count:
        page = write_report(runs, output, data or (), images, count)
    shown = f"{page.images:,} of {page.test_images:,} test images"
    console.result(f"{page.path}: {page.size / 1e6:.1f} MB, {shown}")
