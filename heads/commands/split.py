"""`tier split`: write splits to a file."""

from pathlib import Path
from typing import Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.data_options import FEATURES, AnyBenchmarkOption, DataArgument, RowsGroup
from tier4k.heads.commands.fit_options import SplitGroup
from tier4k.heads.commands.loading import load_data
from tier4k.heads.commands.output_options import QuietOption


def split(
    data: DataArgument,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="JSON file to write, for --split of other commands.",
            rich_help_panel=panels.OUTPUT,
        ),
    ],
    splits: SplitGroup,
    benchmark: AnyBenchmarkOption = "all",
    rows: RowsGroup,
    quiet: QuietOption = False,
) -> None:
    """Write the training, validation and test rows of every repeat to a file."""
    from tier4k.cache.atomic import require_suffix
    from tier4k.heads.data.rows import Rows
    from tier4k.heads.data.splits import VALIDATION_SHARE, SplitError
    from tier4k.heads.data.stored_splits import write_splits

    require_suffix(output, (".json",), SplitError)
    console = Console(quiet=quiet)
    report = load_data(console, data, FEATURES, rows)
    selected = report.manifest.select(benchmark)
    selected_rows = Rows.of(selected)
    made_splits = splits.fit_options().split_request(selected).splits(selected_rows, VALIDATION_SHARE)
    write_splits(output, selected_rows, made_splits)
    first = made_splits[0]
    parts = f"{len(first.train)} training, {len(first.validation)} validation and {len(first.test)} test rows"
    console.result(f"{output}: {len(made_splits)} repeats, {parts} in the first")
