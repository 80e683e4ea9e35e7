"""`tier compare`: compare runs in pairs."""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated

import typer

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.run_options import found_runs
from tier4k.heads.reporting.choices import ComparedMetric

NAMED_PARTS = ("method", "head", "benchmark", "data", "split", "run")  # what `described` and the split print


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS",
            help="Two or more runs with the same test rows.",
            callback=found_runs,
        ),
    ],
    metric: Annotated[
        ComparedMetric,
        typer.Option(metavar="NAME", help="Metric that is compared: srcc, krcc, plcc, rmse."),
    ] = "srcc",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write with all values: .csv, .parquet or .xlsx."),
    ] = None,
    *,
    printing: OutputGroup,
) -> None:
    """Compare runs in pairs: differences, 95 % intervals, Holm-corrected p-values.

    Intervals and p-values are for new training sets and new prompts of the same generators. The file also
    has the intervals for the fitted heads alone, and Williams' test, which assumes that images of one prompt
    are independent.
    """
    from tier4k.heads.reporting.comparison import compare as compare_runs
    from tier4k.heads.reporting.comparison import comparison_frame
    from tier4k.heads.reporting.tables import require_frame_suffix, write_table
    from tier4k.heads.reporting.terminal.comparison import comparison_notes, comparison_table

    if output is not None:
        require_frame_suffix(output)
    names = [_letter(number) for number in range(len(runs))]
    comparisons = compare_runs(runs, metric)
    console = printing.console()
    _print_runs(console, names, runs)
    console.show(comparison_table(comparisons, names, runs))
    for note in comparison_notes(comparisons, names):
        console.explain(note)
    if output is not None:
        write_table(comparison_frame(comparisons, runs), output)
        console.result(f"{output}: {len(comparisons)} comparisons")


def _letter(number: int) -> str:
    return ascii_uppercase[number] if number < len(ascii_uppercase) else str(number)


def _print_runs(
    console: Console,
    names: Sequence[str],
    runs: Sequence[Path],
) -> None:
    from tier4k.heads.reporting.terminal.results import described
    from tier4k.heads.reporting.tidy import run_labels
    from tier4k.heads.results.results import Results

    labels = run_labels(runs, known=NAMED_PARTS)
    for name, run in zip(names, runs, strict=True):
        results = Results.read(run)
        parts = [described(results), f"split {results.split}", labels[run.resolve()]]
        console.note(f"{name}  {', '.join(filter(None, parts))}: {run}")
