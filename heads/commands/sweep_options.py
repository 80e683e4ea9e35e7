"""Options of `tier sweep` that no other command has, or has otherwise."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.results.choices import KeptModels

PaperOption = Annotated[
    bool,
    typer.Option(
        "--paper",
        help="The paper's table: FR and NR on I2I, NR on T2I, NR and PR on all.",
        rich_help_panel=panels.SWEEP,
    ),
]
GridOption = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        metavar="FILE",
        help="TOML file with values of options of fit-head (docs/results.md).",
        rich_help_panel=panels.SWEEP,
    ),
]
SearchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Choose among N random combinations, in every repeat.",
        rich_help_panel=panels.SWEEP,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="List the runs and which of them exist; fit nothing.",
        rich_help_panel=panels.SWEEP,
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Processes that fit heads at the same time.",
        rich_help_panel=panels.SWEEP,
    ),
]
ModelsOption = Annotated[
    KeptModels,
    typer.Option(
        "--models",
        metavar="NAME",
        help="Repeats whose heads are kept: all, first, none.",
        rich_help_panel=panels.OUTPUT,
    ),
]
SweepOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File for the table of all runs: .csv, .parquet, .xlsx or .tex.",
        rich_help_panel=panels.OUTPUT,
    ),
]
