"""The table of a search."""

from collections.abc import Sequence

from rich.table import Table

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.terminal import _cell
from tier4k.heads.results.results import Results
from tier4k.heads.sweeps.search import Tried


def search_table(tried: Sequence[Tried]) -> Table:
    """One line for each combination that a search tried, in its order: the values, the held-out SRCC, and each target's test SRCC."""
    table = Table(*tried[0].chosen)
    table.add_column("held-out SRCC", justify="right")
    for run in tried[0].runs:
        for target in run.results.summaries:
            table.add_column(f"{target} test SRCC", justify="right")
    for number, one in enumerate(tried):
        tests = [
            _cell(_result(run.results, target, "srcc"), with_interval=True)
            for run in one.runs
            for target in run.results.summaries
        ]
        table.add_row(
            *map(str, one.chosen.values()), f"{one.figure:.3f}", *tests, style="" if number else "bold"
        )
    return table


def _result(run: Results, target: str, metric: str) -> Summary:
    return run.summaries[target][run.headline][metric]
