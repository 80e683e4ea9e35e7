"""`tier report`: write runs as an HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.commands.run_options import RunsArgument


def report(
    runs: RunsArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="HTML file to write.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = Path("report.html"),
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Data set with the images; may repeat.",
            show_default="as recorded",
            rich_help_panel=panels.DATA,
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            "--thumbnails",
            min=0,
            metavar="N",
            help="Number of thumbnails at most; largest errors first.",
            rich_help_panel=panels.DATA,
        ),
    ] = 400,
    quiet: QuietOption = False,
) -> None:
    """Write one HTML page with the tables, plots and images of runs."""
    from tier4k.heads.reporting.html.page import write_report

    console = Console(quiet=quiet)
    with console.task("report") as count:
        page = write_report(runs, output, data or (), images, count)
    shown = f"{page.images:,} of {page.test_images:,} test images"
    console.result(f"{page.path}: {page.size / 1e6:.1f} MB, {shown}")
