"""`tier plot`: draw runs as a figure for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.options import RunsArgument
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.reporting.choices import ComparedMetric, PlotKind, PlotWidth


def plot(
    runs: RunsArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: .pdf, .svg or .png (300 dpi)."),
    ],
    kind: Annotated[
        PlotKind | None,
        typer.Option(
            help="Predictions against scores, results within each generator, or bars of runs that differ in "
            "one setting.",
            show_default="scatter for one run, ablation for several",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target to draw; may be repeated.", show_default="all targets"),
    ] = None,
    width: Annotated[
        PlotWidth,
        typer.Option(help="One column of a paper (3.3 inches) or two (6.9 inches)."),
    ] = "single",
    setting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Setting of an ablation, such as head, feature, streams or image-encoder.",
            show_default="the one in which the runs differ",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE",
            help="Value of the setting that the other runs are compared with, such as pooled.",
            show_default="the usual value, or the first run's",
        ),
    ] = None,
    metric: Annotated[
        ComparedMetric | None,
        typer.Option(help="Metric of an ablation or of generators.", show_default="srcc"),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            help="Repeat of a scatter, from 0.", show_default="the one whose SRCC is nearest to the mean"
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Draw runs as a figure for a paper, and print what its caption must say. Needs tier4k\\[plot]."""
    from tier4k.heads.reporting.plots.plot import plot as plot_runs

    written = plot_runs(runs, output, kind, target or (), width, setting, reference, metric, repeat)
    console = Console(quiet=quiet)
    for sentence in written.caption:
        console.note(sentence)
    inches = " x ".join(f"{side:.2f}" for side in written.inches)
    console.result(f"{written.path}: {written.kind}, {inches} inches")
