"""Arguments and options that name runs, the heads in them, and what is written from them."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels

RUNS = Path("runs")

OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder in which the run folder is made.",
        rich_help_panel=panels.OUTPUT,
    ),
]


def found_run(run: Path | None) -> Path | None:
    """Return the folder of a run that an option names by its folder or its digits.

    Raises:
        ResultError: No run or several runs have the digits.
    """
    from tier4k.heads.results.find_run import find_run

    return None if run is None else find_run(run)


def found_runs(runs: list[Path]) -> list[Path]:
    """Return the folders of runs that arguments name; a folder that contains runs stands for all of them.

    Raises:
        ResultError: No run or several runs have digits that were passed.
    """
    from tier4k.heads.results.find_run import find_runs

    return find_runs(runs)


RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run (folder or digits), or an exported model.",
        callback=found_run,
    ),
]

RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUNS",
        help="Runs: folders, digits, or a folder of runs.",
        callback=found_runs,
        default_factory=lambda: [RUNS],
        show_default="runs",
    ),
]

MatrixOutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .npz or .parquet.",
        rich_help_panel=panels.OUTPUT,
    ),
]

OneTargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="Target to use.",
        show_default="all",
        rich_help_panel=panels.HEAD,
    ),
]

RepeatOption = Annotated[
    int | None,
    typer.Option(
        "--repeat",
        metavar="N",
        help="Repeat whose heads are used.",
        show_default="all",
        rich_help_panel=panels.HEAD,
    ),
]

TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME",
        help="Code that may run: package.module.Class.",
        show_default="none",
        rich_help_panel=panels.HEAD,
    ),
]
