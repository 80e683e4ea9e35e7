"""`tier plot`: draw runs as a figure for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.output_options import QuietOption
from tier4k.heads.commands.run_options import RunsArgument
from tier4k.heads.reporting.choices import ComparedMetric, PlotKind, PlotWidth


def plot(
    runs: RunsArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .pdf, .svg or .png (300 dpi).",
            rich_help_panel=panels.OUTPUT,
        ),
    ],
    kind: Annotated[
        PlotKind | None,
        typer.Option(
            metavar="NAME",
            help="scatter, generators or ablation.",
            show_default="scatter of one run",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Target to draw; may be repeated.", show_default="all"),
    ] = None,
    width: Annotated[
        PlotWidth,
        typer.Option(metavar="NAME", help="One column of a paper (single), or two (double)."),
    ] = "single",
    setting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Setting of an ablation: head, feature, …",
            show_default="what differs",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE",
            help="Value that others are compared with.",
            show_default="the usual one",
        ),
    ] = None,
    metric: Annotated[
        ComparedMetric | None,
        typer.Option(metavar="NAME", help="Metric: srcc, krcc, plcc, rmse.", show_default="srcc"),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(metavar="N", help="Repeat of a scatter, from 0.", show_default="nearest to the mean"),
    ] = None,
    *,
    quiet: QuietOption = False,
) -> None:
    """Draw runs as a figure for a paper: scatter, generators, or ablation.

    The command prints what the caption must say. Needs tier4k\\[plot].
    """
    from tier4k.heads.reporting.plots.plot import plot as plot_runs

    written = plot_runs(runs, output, kind, target or (), width, setting, reference, metric, repeat)
    console = Console(quiet=quiet)
    for sentence in written.caption:
        console.note(sentence)
    inches = " x ".join(f"{side:.2f}" for side in written.inches)
    console.result(f"{written.path}: {written.kind}, {inches} inches")
