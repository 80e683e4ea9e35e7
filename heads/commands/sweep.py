"""`tier sweep`: fit many heads in one command."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.commands.console import make_console, print_line, progress_counter
from tier4k.heads.commands.encoders import image_choice
from tier4k.heads.commands.loading import load_data
from tier4k.heads.commands.options import (
    FEATURES,
    RUNS,
    DataArgument,
    FeaturesOption,
    FitGroup,
    ImageEncoderOption,
    ImageGroup,
    OutOption,
    RatedRowsGroup,
    TextEncoderOption,
)
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.sweeps.choices import SweepName

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.heads.protocol.publish import Run
    from tier4k.heads.sweeps.grid import Cell
    from tier4k.heads.sweeps.search import TriedCombination

SweepPresetOption = Annotated[
    SweepName | None,
    typer.Option(
        "--preset",
        help="paper: fit the runs of the paper's table (FR and NR on I2I, NR on T2I, NR and PR on all rows).",
    ),
]
GridOption = Annotated[
    Path | None,
    typer.Option("--grid", help="TOML file with options of fit-head; each has a value or a list of values."),
]
ModelsOption = Annotated[
    KeptModels,
    typer.Option(
        "--models", help="Fitted heads to keep: those of all repeats, of the first repeat, or none."
    ),
]
JobsOption = Annotated[
    int,
    typer.Option(min=1, help="Number of processes that fit heads at the same time; they share the cores."),
]
SearchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Try only N combinations of the grid. Optuna chooses the next one by the held-out SRCC of "
        "those already tried.",
    ),
]
SweepOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write with the table of all runs: .csv, .parquet, .xlsx or .tex."
    ),
]


def sweep(
    data: DataArgument,
    *,
    features: FeaturesOption = FEATURES,
    preset: SweepPresetOption = None,
    grid: GridOption = None,
    image_encoder: ImageEncoderOption = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    images: ImageGroup,
    fit: FitGroup,
    models: ModelsOption = "none",
    rows: RatedRowsGroup,
    out: OutOption = RUNS,
    jobs: JobsOption = 1,
    search: SearchOption = None,
    output: SweepOutputOption = None,
) -> None:
    """Fit the heads of the paper's table or all combinations of a grid; existing runs are not refitted."""
    from tier4k.heads.reporting.tables import require_table_suffix
    from tier4k.heads.sweeps.grid import Cell, paper_cells, read_grid

    _require_one_task(preset, grid, search, jobs)
    if output:
        require_table_suffix(output)
    options = replace(fit.fit_options(), models=models)
    base = Cell(image_choice(images, image_encoder), text_encoder, options)
    values = read_grid(grid) if grid else {}
    console = make_console()
    manifest = load_data(console, data, features, rows).manifest
    if search:
        runs = _search(console, manifest, features, values, base, search, out)
    else:
        cells = _grid_cells(console, manifest, values, base) if grid else paper_cells(manifest, base)
        runs = _sweep(console, manifest, features, cells, out, jobs)
    _print_totals(console, runs, out)
    if output:
        _write(console, runs, output)


def _require_one_task(
    preset: SweepName | None,
    grid: Path | None,
    search: int | None,
    jobs: int,
) -> None:
    if (preset is None) == (grid is None):
        raise typer.BadParameter(
            "one of the two options is needed: pass either --preset paper or --grid FILE",
            param_hint="--preset / --grid",
        )
    if search and (grid is None or jobs > 1):
        raise typer.BadParameter(
            "--search needs --grid FILE and --jobs 1, because each combination depends on the results of "
            "earlier ones",
            param_hint="--search",
        )


def _grid_cells(
    console: "Console",
    manifest: "Manifest",
    grid: dict[str, Any],
    base: "Cell",
) -> "list[Cell]":
    from tier4k.heads.sweeps.grid import grid_cells

    cells, impossible = grid_cells(grid, manifest, base)
    if impossible:
        console.print(
            f"{impossible} combinations are left out, because full reference (fr) needs an image prompt "
            "in every row",
            style="yellow",
        )
    return cells


def _sweep(
    console: "Console",
    manifest: "Manifest",
    features: Path,
    cells: "Sequence[Cell]",
    out: Path,
    jobs: int,
) -> "list[Run]":
    from tier4k.heads.reporting.tidy import sweep_table, tidy
    from tier4k.heads.sweeps.run import run_sweep

    with progress_counter(console, "sweep") as count:
        runs = list(run_sweep(manifest, features, cells, out, sys.argv, jobs, count))
    console.print(sweep_table(tidy([run.folder for run in runs])))
    return runs


def _search(
    console: "Console",
    manifest: "Manifest",
    features: Path,
    grid: dict[str, Any],
    base: "Cell",
    trials: int,
    out: Path,
) -> "list[Run]":
    from tier4k.heads.sweeps.search import search

    with progress_counter(console, "search") as count:
        tried = search(manifest, features, grid, base, trials, out, sys.argv, count)
    console.print(_search_table(tried))
    console.print(
        f"The {len(tried)} combinations are sorted by held-out SRCC; the first has the highest. The more "
        "combinations "
        "are tried, the less reliable the test SRCC of the first one is. Do not select by test SRCC: the "
        "selected value would then be meaningless.",
        style="yellow",
    )
    runs: list[Run] = []
    for combination in tried:
        runs += combination.runs
    return runs


def _print_totals(
    console: "Console",
    runs: "Sequence[Run]",
    out: Path,
) -> None:
    fitted = [run for run in runs if not run.found]
    seconds = sum(run.results.seconds for run in fitted)
    existing_count = len(runs) - len(fitted)
    print_line(
        console,
        f"{out} has {len(runs)} runs of this sweep: {existing_count} existed already, "
        f"{len(fitted)} were fitted in {seconds:.1f} s",
    )


def _write(
    console: "Console",
    runs: "Sequence[Run]",
    output: Path,
) -> None:
    from tier4k.heads.reporting.tables import write_table
    from tier4k.heads.reporting.tidy import tidy

    write_table(tidy([run.folder for run in runs]), output)
    content = "SRCC and PLCC" if output.suffix == ".tex" else "all metrics, one in each line"
    print_line(console, f"{output}: {content}")


def _search_table(tried: "Sequence[TriedCombination]") -> "Table":
    """Return a table of combinations of options with the held-out SRCC, and the test SRCC of each target.

    Args:
        tried: The combinations, sorted by held-out SRCC. The line of the first combination is bold.
    """
    from rich.table import Table

    best = tried[0]
    table = Table(*best.chosen)
    table.add_column("held-out SRCC", justify="right")
    for run in best.runs:
        for target in run.results.summaries:
            table.add_column(f"{target} test SRCC", justify="right")
    for combination in tried:
        table.add_row(
            *map(str, combination.chosen.values()),
            f"{combination.held_out_srcc:.3f}",
            *_test_cells(combination),
            style="bold" if combination is best else "",
        )
    return table


def _test_cells(combination: "TriedCombination") -> list[str]:
    from tier4k.heads.reporting.terminal import summary_cell

    cells = []
    for run in combination.runs:
        for summaries in run.results.summaries.values():
            result = summaries[run.results.headline]
            cells.append(summary_cell(result["srcc"], with_interval=True))
    return cells
