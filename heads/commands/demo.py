"""`tier demo`: run both stages on a synthetic sample."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import make_console, print_run
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.fit import fit_with_progress
from tier4k.heads.commands.loading import load_with_stores
from tier4k.heads.commands.options import RowsGroup
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from rich.console import Console

    from tier4k.extract.datasets.choices import Benchmark
    from tier4k.heads.data.choices import Method
    from tier4k.heads.results.run import Run

FITS: "tuple[tuple[Method, Benchmark], ...]" = (
    ("nr", "I2I"),
    ("fr", "I2I"),
    ("nr", "all"),
    ("pr", "all"),
)


def demo(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder for data, features and runs."),
    ] = Path("demo"),
    repeats: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Repeats of each fit."),
    ] = 3,
) -> None:
    """Write a synthetic sample data set, extract its features, and fit NR, FR and PR heads."""
    from tier4k.extract.datasets.sample import write_sample
    from tier4k.heads.reporting.html.page import write_report

    console = make_console()
    data = write_sample(folder)
    features = folder / "features"
    console.print(
        f"Sample data: {data}. The data are synthetic: this program draws the images and computes the scores "
        "with a formula, so the results mean nothing."
    )
    _encode_sample(console, data, features)
    runs = _fit_sample(console, data, features, repeats, folder / "runs")
    page = write_report(runs, folder / "report.html", [data])
    console.print(f"\nOpen {page.path} in a browser.")
    example = f"tier fit-head {data} --features {features} --method fr --target MOS_a --split published"
    console.print(f"Continue, for example, with:\n  {example}")


def _encode_sample(
    console: "Console",
    data: Path,
    features: Path,
) -> None:
    from tier4k.heads.extraction.extract import extract_features

    extract_features(data, features=features, reporter=ConsoleReporter(console), command=sys.argv)


def _fit_sample(
    console: "Console",
    data: Path,
    features: Path,
    repeats: int,
    out: Path,
) -> "list[Run]":
    from tier4k.heads.protocol.options import FitOptions

    choice = encoder_choice(EncodersGroup(), ImageGroup())
    sources = RowsGroup().read([data])
    stored = load_with_stores(console, sources, features, choice, "stop")
    runs = []
    for method, benchmark in FITS:
        options = FitOptions(method, benchmark, repeats=repeats, models="first")
        run = fit_with_progress(console, *stored, options, out)
        print_run(console, run)
        runs.append(run)
    return runs
