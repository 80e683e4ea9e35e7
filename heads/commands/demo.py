"""`tier demo`: run both stages on a synthetic sample."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import Console, print_runs
from tier4k.heads.commands.data_options import RowsGroup
from tier4k.heads.commands.encoder_options import EncodersGroup, ImageGroup
from tier4k.heads.commands.encoders import encoder_choice
from tier4k.heads.commands.fit import fit_with_progress
from tier4k.heads.commands.loading import load_with_stores
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    *,
    repeats: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Repeats of each fit."),
    ] = 3,
    printing: OutputGroup,
) -> None:
    """Write a synthetic sample data set, extract its features, and fit NR, FR and PR heads."""
    from tier4k.extract.datasets.sample import write_sample
    from tier4k.heads.reporting.html.page import write_report

    console = printing.console()
    data = write_sample(folder)
    features = folder / "features"
    console.note(
        f"Sample data: {data}. The data are synthetic: this program draws the images and computes the scores "
        "with a formula, so the results mean nothing."
    )
    _encode_sample(console, data, features)
    runs = _fit_sample(console, data, features, repeats, folder / "runs")
    page = write_report(runs, folder / "report.html", [data])
    print_runs(console, runs)
    console.note("")
    console.note(f"Open {page.path} in a browser.")
    console.note("Continue, for example, with:")
    for arguments in _next_commands(data, features, runs):
        console.command(f"  {shlex.join(['tier', *arguments])}")


def _next_commands(
    data: Path,
    features: Path,
    runs: "Sequence[Run]",
) -> "Iterator[list[str]]":
    """Yield the arguments of commands that work after the demo."""
    folders = [str(run.folder) for run in runs]
    out = str(runs[0].folder.parent)
    yield ["table", out]
    yield ["compare", *folders[:2]]
    yield ["fit-head", str(data), "--features", str(features), "--head", "ridge", "--out", out]
    yield ["predict", folders[2], str(data), "--features", str(features)]


def _encode_sample(
    console: Console,
    data: Path,
    features: Path,
) -> None:
    from tier4k.heads.extraction.extract import extract_features

    extract_features(data, features=features, reporter=ConsoleReporter(console), command=sys.argv)


def _fit_sample(
    console: Console,
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
        runs.append(fit_with_progress(console, *stored, options, out))
    return runs
